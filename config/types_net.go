package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/internal/certname"
)

// UnmarshalText reads an address to listen on.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return errAddress
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("the port of an address is a number from 0 to 65535")
	}
	if host != "" {
		if _, err := parseHost(host); err != nil {
			return errAddress
		}
	}
	*a = Address(text)
	return nil
}

var errAddress = errors.New(`an address is host:port, such as "127.0.0.1:8443", "[::1]:8443" or ":8443"`)

// UnmarshalText reads a host, or a wildcard for exactly one label before a name. It converts letters
// to lower case.
func (h *Host) UnmarshalText(text []byte) error {
	name, wild := strings.CutPrefix(strings.ToLower(string(text)), "*.")
	host, err := parseHost(name)
	if err != nil {
		return err
	}
	if wild {
		// A wildcard before a single label would match all names of a registry, and an IP address has
		// no labels.
		if !certname.IsDNSName(host) || !strings.Contains(host, ".") {
			return errWildcard
		}
		host = "*." + host
	}
	*h = Host(host)
	return nil
}

var errWildcard = errors.New("a wildcard stands for the first label of a name, as in *.example.com")

var errHost = errors.New("a host is a DNS name or an IP address, without scheme, port, path and trailing dot")

// parseHost returns the canonical form of a host, which is in lower case. A DNS name is otherwise
// unchanged. An IP address is in its shortest form, without brackets.
func parseHost(s string) (string, error) {
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if address, err := netip.ParseAddr(bare); err == nil && address.Zone() == "" && (bare == s || address.Is6()) {
		return address.String(), nil
	}
	if strings.Contains(s, "*") {
		return "", errWildcard
	}
	if !certname.IsDNSName(s) {
		return "", errHost
	}
	return s, nil
}

// UnmarshalText reads an address or a prefix. A prefix whose address has bits after the prefix length
// is refused, because the operator probably meant another network or a single address. An IPv4
// address mapped into IPv6 is refused, because the peer of a socket never has such an address.
func (n *Network) UnmarshalText(text []byte) error {
	prefix, err := netip.ParsePrefix(string(text))
	if address, single := netip.ParseAddr(string(text)); single == nil && address.Zone() == "" {
		prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
	}
	if err != nil || prefix.Addr().Is4In6() {
		return errNetwork
	}
	if prefix != prefix.Masked() {
		return errors.New("has bits after its prefix; the network is " + prefix.Masked().String())
	}
	n.Prefix = prefix
	return nil
}

var errNetwork = errors.New("expected an IP address or addresses with one prefix, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32")

// URL is an absolute http or https URL without user and fragment.
type URL struct{ url.URL }

// UnmarshalText reads a URL. Errors do not quote the text, because it may contain a password. A URL
// with a password is refused.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := parseURL(string(text))
	if err != nil {
		return err
	}
	if parsed.Scheme != "https" && parsed.Scheme != "http" {
		return errors.New("a URL starts with https:// or http://")
	}
	u.URL = *parsed
	return nil
}

// UnmarshalText reads a text with a scheme as a URL, and any other text as the path of a file.
func (l *RevocationList) UnmarshalText(text []byte) error {
	if !strings.Contains(string(text), "://") {
		return l.File.UnmarshalText(text)
	}
	l.URL = new(URL)
	return l.URL.UnmarshalText(text)
}

// String returns l for logs and metrics. If l has a query, the beginning of the query's SHA-256
// replaces it.
func (l RevocationList) String() string {
	if l.URL == nil {
		return string(l.File)
	}
	bare := l.URL.URL
	if bare.RawQuery != "" {
		sum := sha256.Sum256([]byte(bare.RawQuery))
		bare.RawQuery = hex.EncodeToString(sum[:4])
	}
	return bare.String()
}

// UnmarshalText reads an issuer identifier. It does not normalize the text, because identifiers are
// compared byte for byte.
func (i *Identifier) UnmarshalText(text []byte) error {
	parsed, err := parseURL(string(text))
	if err != nil {
		return err
	}
	// http is accepted here for development. Validation decides where http is allowed.
	if !strings.HasPrefix(string(text), "https://") && !strings.HasPrefix(string(text), "http://") {
		return errors.New(httpsIdentifier)
	}
	if parsed.RawQuery != "" || parsed.ForceQuery {
		return errors.New("an issuer identifier has no query (RFC 8414 section 2)")
	}
	*i = Identifier(text)
	return nil
}

const httpsIdentifier = "an issuer identifier starts with https:// (RFC 8414 section 2)"

// isServiceName reports whether host is a name of Kubernetes or of a container network: a single
// label, or a name that only the DNS of the cluster resolves.
func isServiceName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil && host != "" && (!strings.Contains(host, ".") || strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".svc.cluster.local"))
}

// isLoopbackHTTP reports whether u is an http URL of this machine.
func isLoopbackHTTP(u *url.URL) bool {
	address, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && address.IsLoopback())
}

// parseURL parses an absolute URL with a host and without user and fragment.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || !isPrintable([]byte(s)) {
		return nil, errURL
	}
	switch {
	case u.Scheme == "" || u.Host == "":
		return nil, errURL
	case u.User != nil:
		return nil, errors.New("a URL here has no user and no password")
	case u.Fragment != "" || strings.Contains(s, "#"):
		return nil, errors.New("a URL here has no fragment")
	}
	if _, err := parseHost(strings.ToLower(u.Hostname())); err != nil {
		return nil, fmt.Errorf("the host of the URL: %w", err)
	}
	if strings.HasSuffix(u.Host, ":") {
		return nil, errPort
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errPort
		}
	}
	return u, nil
}

var (
	errURL  = errors.New("expected an absolute URL, such as https://api.example.com")
	errPort = errors.New("the port of a URL is a number from 1 to 65535")
)
