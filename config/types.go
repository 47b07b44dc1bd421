package config

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// The typed scalars. The UnmarshalText method of each type parses a value. Its error contains neither
// path nor position, because the decoder adds them. Empty text is an error unless the comment on the
// type says something else.

// Address is a TCP address to listen on, host:port. An empty host listens on every address.
type Address string

// Path is the path of a file, or "" for no file. In the file, a relative path is relative to the
// folder of the configuration file; Load makes it absolute.
type Path string

// Bytes is a size in bytes, written as a number with an optional unit: B, KiB,
// MiB or GiB.
type Bytes int64

// Name is a configured name for logs, metrics and identity headers. It has at most 64 letters,
// digits, dots, underscores and hyphens, and begins with a letter or digit.
type Name string

// ClientID is an OAuth client identifier: at most 128 characters of printable ASCII without spaces.
type ClientID string

// Identifier is an authorization server's issuer identifier. It is an https URL without query,
// fragment or user (RFC 8414 section 2), and is not normalized. With insecure_loopback_http,
// validation also allows http to this machine.
type Identifier string

// Host is a host name or IP literal without port, in lower case. An IPv6 literal is in its shortest
// form, without brackets. A host of an API can be a wildcard: "*.example.com" matches every name with
// exactly one label before example.com.
type Host string

// Method is an HTTP method, compared exactly. CONNECT and TRACE are refused.
type Method string

// Scope is one scope token, RFC 6749 section 3.3.
type Scope string

// HeaderName is the name of an identity header in canonical form. The name "" means that the header
// is not sent. Names that control the message itself (Host, Connection, Content-Length and others)
// and names with characters other than letters, digits and hyphens are refused.
type HeaderName string

// Algorithm is a JWS algorithm, RFC 7518 section 3.1, RFC 8037 section 3.1 and RFC 9864 section
// 2.2.
type Algorithm string

// The algorithms that can be configured. All are asymmetric.
const (
	ES256   Algorithm = "ES256"
	ES384   Algorithm = "ES384"
	ES512   Algorithm = "ES512"
	PS256   Algorithm = "PS256"
	PS384   Algorithm = "PS384"
	PS512   Algorithm = "PS512"
	RS256   Algorithm = "RS256"
	RS384   Algorithm = "RS384"
	RS512   Algorithm = "RS512"
	EdDSA   Algorithm = "EdDSA"   // the same as Ed25519, because the gate supports no other curve of EdDSA
	Ed25519 Algorithm = "Ed25519" // RFC 9864, which deprecates the name EdDSA
)

// LogLevel is the minimum level of log messages.
type LogLevel slog.Level

// Level returns l as a level of package slog.
func (l LogLevel) Level() slog.Level { return slog.Level(l) }

// TLSVersion is a version of TLS, with the same numbers as in crypto/tls.
type TLSVersion uint16

// The versions that can be configured as the minimum.
const (
	TLS12 TLSVersion = tls.VersionTLS12
	TLS13 TLSVersion = tls.VersionTLS13
)

// Network is a set of IP addresses with a common prefix, written 10.0.0.0/8 or 2001:db8::/32, or a
// single address.
type Network struct{ netip.Prefix }

// Includes reports whether at least one of networks contains address. address must have no zone, and
// must not be an IPv4 address mapped into IPv6.
func Includes(networks []Network, address netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}

// ClientPrefix returns the addresses that are treated as one client together with address: a single
// IPv4 address, or a /64 of IPv6, because an IPv6 subscriber has a /64 at least. The zone is ignored.
// For an invalid address the result is the zero Prefix.
func ClientPrefix(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	prefix, _ := address.Prefix(min(address.BitLen(), 64)) // the error is for an invalid address
	return prefix
}

// FieldName is an HTTP field name in canonical form: letters, digits and hyphens.
type FieldName string

// Date is a day in UTC. The zero Date means that no day is set.
type Date struct{ begin time.Time }

// UnmarshalText reads a date of RFC 3339, such as 2027-06-30.
func (d *Date) UnmarshalText(text []byte) error {
	begin, err := time.Parse(time.DateOnly, string(text))
	if err != nil || begin.IsZero() {
		return errors.New("expected a date such as 2027-06-30, got " + strictyaml.Quote(string(text)))
	}
	d.begin = begin
	return nil
}

// IsZero reports whether no day is set in d.
func (d Date) IsZero() bool { return d.begin.IsZero() }

// End returns the first instant after the day, or the zero time for the zero Date.
func (d Date) End() time.Time {
	if d.IsZero() {
		return time.Time{}
	}
	return d.begin.AddDate(0, 0, 1)
}

// String returns d in the form 2027-06-30, or "" for the zero Date.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.begin.Format(time.DateOnly)
}
