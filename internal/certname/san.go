package certname

import (
	"crypto/x509"
	"errors"
	"iter"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/internal/ascii"
)

// The names of a subjectAltName. Each Matches method compares its name only with entries of the same
// kind in the leaf, and an entry must match as a whole. UnmarshalText of all types but DN returns an
// error for empty text, because empty text is probably a template variable without a value.

// URI is an absolute URI, kept byte for byte.
type URI string

// Email is a mailbox, local@domain, with the domain in lower case. The local part is kept
// unchanged: only the domain's own mail server knows whether its case matters (RFC 5321 section
// 2.4).
type Email string

// IP is an address in binary form, without zone, port and prefix length. The zero IP is not an
// address and matches nothing.
type IP struct{ netip.Addr }

// UnmarshalText parses an absolute URI: a scheme, a colon and at least one more character.
func (u *URI) UnmarshalText(text []byte) error {
	scheme, rest, found := strings.Cut(string(text), ":")
	if !found || scheme == "" || rest == "" || !isVisibleASCII(string(text)) {
		return errURI
	}
	// crypto/x509 refuses certificates with a URI that net/url cannot parse.
	if _, err := url.Parse(string(text)); err != nil {
		return errURI
	}
	*u = URI(text)
	return nil
}

var errURI = errors.New("expected an absolute URI with its scheme, such as spiffe://example.com/ledger")

// Matches reports whether a uniformResourceIdentifier of cert is u, byte for byte. No form is
// normalized: percent escapes, letter case and a trailing slash make a difference.
func (u URI) Matches(cert *x509.Certificate) bool {
	for raw := range rawURIs(cert) {
		if string(raw) == string(u) {
			return true
		}
	}
	return false
}

// UnmarshalText parses a mailbox without display name and without quoted local part.
func (e *Email) UnmarshalText(text []byte) error {
	local, domain, found := strings.Cut(string(text), "@")
	if !found || local == "" || !isVisibleASCII(string(text)) || strings.ContainsAny(local, `"(),:;<>[\]`) || !IsDNSName(domain) {
		return errEmail
	}
	*e = Email(local + "@" + strings.ToLower(domain))
	return nil
}

var errEmail = errors.New("expected a mail address without display name, such as ledger@example.com")

// Matches reports whether an rfc822Name of cert is e: the local part byte for byte, the domain
// without regard to the case of ASCII letters.
func (e Email) Matches(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.EmailAddresses, e.equals)
}

func (e Email) equals(mailbox string) bool {
	at, other := strings.LastIndexByte(string(e), '@'), strings.LastIndexByte(mailbox, '@')
	return at > 0 && at == other && string(e[:at]) == mailbox[:at] && ascii.EqualFold(string(e[at:]), mailbox[at:])
}

// UnmarshalText parses an address, IPv6 in any spelling. An IPv4-mapped IPv6 address stays an
// IPv6 address.
func (i *IP) UnmarshalText(text []byte) error {
	address, err := netip.ParseAddr(string(text))
	if err != nil || address.Zone() != "" {
		return errIP
	}
	i.Addr = address
	return nil
}

var errIP = errors.New("expected an IP address without brackets, zone, port and prefix length, such as 192.0.2.1 or 2001:db8::1")

// Matches reports whether an iPAddress of cert is i. An IPv4 address and its IPv4-mapped IPv6
// address are two names, because certificates encode them differently.
func (i IP) Matches(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.IPAddresses, func(octets net.IP) bool {
		address, ok := netip.AddrFromSlice(octets)
		return ok && address == i.Addr
	})
}

// HasDNSName reports whether a dNSName of cert is name, without regard to the case of ASCII
// letters. "*" is an ordinary character, and the common name is not a host name.
func HasDNSName(cert *x509.Certificate, name string) bool {
	return slices.ContainsFunc(cert.DNSNames, func(n string) bool { return ascii.EqualFold(n, name) })
}

// CheckDNSName returns an error unless name can be a dNSName. A wildcard in front, "*.", is
// allowed, since some client certificates have it.
func CheckDNSName(name string) error {
	if !IsDNSName(strings.TrimPrefix(name, "*.")) {
		return errors.New("is not a DNS name")
	}
	return nil
}

// IsDNSName reports whether s consists of labels of letters, digits, hyphens and underscores. No
// label is empty or longer than 63 bytes, and s has at most 253 bytes: 255 of RFC 1035 section
// 2.3.4, less the first length byte and the root of the wire format. The last label is not all
// digits, because s would be a malformed IPv4 address.
func IsDNSName(s string) bool {
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	_, err := strconv.ParseUint(labels[len(labels)-1], 10, 64)
	return err != nil && len(s) <= 253
}

func notInLabel(c rune) bool {
	letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	return !letter && (c < '0' || c > '9') && c != '-' && c != '_'
}

// URIs returns the uniformResourceIdentifiers in cert's subjectAltName as the certificate encodes them,
// in the same order. cert.URIs holds parsed URLs, whose text can differ: HTTP: becomes http:, and an
// empty fragment is dropped.
func URIs(cert *x509.Certificate) []string {
	var uris []string
	for raw := range rawURIs(cert) {
		uris = append(uris, string(raw))
	}
	return uris
}

// subjectAltName is the identifier of the extension, 2.5.29.17 (RFC 5280 section 4.2.1.6).
var subjectAltName = []int{2, 5, 29, 17}

// uriTag is uniformResourceIdentifier, the GeneralName [6], an IA5String.
var uriTag = asn1.Tag(6).ContextSpecific()

// rawURIs yields the URIs up to the first malformed name. crypto/x509 refuses a certificate with a
// malformed name, so rawURIs yields all URIs of a parsed certificate.
func rawURIs(cert *x509.Certificate) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range cert.Extensions {
			if !cert.Extensions[i].Id.Equal(subjectAltName) {
				continue
			}
			der := cryptobyte.String(cert.Extensions[i].Value)
			var names cryptobyte.String
			if !der.ReadASN1(&names, asn1.SEQUENCE) || !der.Empty() {
				return
			}
			for !names.Empty() {
				var name cryptobyte.String
				var tag asn1.Tag
				if !names.ReadAnyASN1(&name, &tag) {
					return
				}
				if tag == uriTag && !yield(name) {
					return
				}
			}
		}
	}
}

// isVisibleASCII reports whether s has no spaces, control characters or characters beyond ASCII.
func isVisibleASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}
