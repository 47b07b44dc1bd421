package config

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// The names that a subjectAltName may hold beside dNSNames, RFC 5280 section 4.2.1.6.
// A name that is empty is an error: whoever wrote it meant to register one.

// URI is an absolute URI, kept byte for byte.
type URI string

// Email is a mailbox, local@domain, with the domain in lower case. The local part is
// kept as it is: whether its case counts is the business of the domain (RFC 5321
// section 2.4).
type Email string

// IP is an address without zone, port and prefix length, in binary form. The zero IP
// is none.
type IP struct{ netip.Addr }

// UnmarshalText reads an absolute URI: a scheme and something behind it.
func (u *URI) UnmarshalText(text []byte) error {
	scheme, rest, found := strings.Cut(string(text), ":")
	if !found || scheme == "" || rest == "" || !isPrintable(text) {
		return errURI
	}
	// Certificates with a URI that net/url does not read are refused by crypto/x509.
	if _, err := url.Parse(string(text)); err != nil {
		return errURI
	}
	*u = URI(text)
	return nil
}

var errURI = errors.New("expected an absolute URI with its scheme, such as spiffe://example.com/ledger")

// UnmarshalText reads a mailbox.
func (e *Email) UnmarshalText(text []byte) error {
	local, domain, found := strings.Cut(string(text), "@")
	if !found || local == "" || !isPrintable(text) || strings.ContainsAny(local, `"(),:;<>[\]`) || !isDNSName(domain) {
		return errEmail
	}
	*e = Email(local + "@" + strings.ToLower(domain))
	return nil
}

var errEmail = errors.New("expected a mail address without display name, such as ledger@example.com")

// checkSANDNS returns an error unless name can be a dNSName. A "*" in front is a letter
// like any other, which some certificates have.
func checkSANDNS(name string) error {
	if !isDNSName(strings.TrimPrefix(name, "*.")) {
		return errors.New("is not a DNS name")
	}
	return nil
}

// matches reports whether an rfc822Name is e: the local part byte for byte, the domain
// without regard to the case of ASCII letters.
func (e Email) matches(mailbox string) bool {
	at, other := strings.LastIndexByte(string(e), '@'), strings.LastIndexByte(mailbox, '@')
	return at > 0 && at == other && string(e[:at]) == mailbox[:at] && equalFoldASCII(string(e[at:]), mailbox[at:])
}

// UnmarshalText reads an address, IPv6 in any of its spellings. An IPv4-mapped IPv6
// address stays the IPv6 address that it is.
func (i *IP) UnmarshalText(text []byte) error {
	address, err := netip.ParseAddr(string(text))
	if err != nil || address.Zone() != "" {
		return errIP
	}
	i.Addr = address
	return nil
}

var errIP = errors.New("expected an IP address without brackets, zone, port and prefix length, such as 192.0.2.1 or 2001:db8::1")

// matches reports whether an iPAddress, 4 or 16 octets in network byte order, is i.
// An IPv4 address and the same one mapped into IPv6 are two names, as they are two
// encodings in a certificate.
func (i IP) matches(octets []byte) bool {
	address, ok := netip.AddrFromSlice(octets)
	return ok && address == i.Addr
}
