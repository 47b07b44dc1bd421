package config

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// The typed scalars of the tree. Each is parsed by its UnmarshalText, whose error
// is a sentence without the value's path or position: the decoder adds those. Empty
// text is an error except where the type has a meaning for it.

// Address is a TCP address to listen on, host:port; an empty host means every
// address.
type Address string

// Path is a file's path. Load makes it absolute, relative to the configuration
// file's folder. "" means that none is named.
type Path string

// Bytes is a size in bytes, written as a number with an optional unit: B, KiB,
// MiB or GiB.
type Bytes int64

// Name is a configured name, as it appears in logs, metrics and identity headers:
// letters, digits, dot, underscore and hyphen, at most 64, first a letter or digit.
type Name string

// ClientID is an OAuth client identifier: printable ASCII without spaces, at most
// 128 characters.
type ClientID string

// Identifier is an authorization server's issuer identifier, kept byte for byte:
// an https URL without query, fragment or user (RFC 8414 section 2). Validation allows
// http where a connection is marked insecure.
type Identifier string

// Host is a host name or IP literal without port, in lower case; an IPv6 literal
// without brackets and in its shortest form. Where an API is served, it may be a
// wildcard: "*.example.com" stands for every name with exactly one label more.
type Host string

// Method is an HTTP method, compared exactly. CONNECT and TRACE cannot be named.
type Method string

// Scope is one scope token, RFC 6749 section 3.3.
type Scope string

// HeaderName is an HTTP field name in canonical form, or "" for a header that is
// not sent. Names that steer the message itself (Host, Connection, Content-Length
// …) and names with characters other than letters, digits and hyphens cannot be
// identity headers.
type HeaderName string

// Algorithm is a JWS algorithm, RFC 7518 section 3.1 and RFC 8037 section 3.1.
type Algorithm string

// The algorithms that can be accepted. All are asymmetric.
const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	RS256 Algorithm = "RS256"
	EdDSA Algorithm = "EdDSA"
)

// LogLevel is the least level that is logged.
type LogLevel slog.Level

// Level returns l for package slog.
func (l LogLevel) Level() slog.Level { return slog.Level(l) }

// TLSVersion is a protocol version in the numbers of crypto/tls.
type TLSVersion uint16

// The versions that can be the least one.
const (
	TLS12 TLSVersion = tls.VersionTLS12
	TLS13 TLSVersion = tls.VersionTLS13
)

// Network is the IP addresses with one prefix, written 10.0.0.0/8, 2001:db8::/32 or, for
// one address, without its length.
type Network struct{ netip.Prefix }

// Includes reports whether address, without zone and unmapped, is in one of networks.
func Includes(networks []Network, address netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}

// FieldName is an HTTP field name in canonical form: letters, digits and hyphens.
type FieldName string

// Date is a day, from its beginning to its end in UTC.
type Date struct{ begin time.Time }

// DateOf returns the day of t in UTC.
func DateOf(t time.Time) Date { return Date{t.UTC().Truncate(24 * time.Hour)} }

// UnmarshalText reads a date of RFC 3339, such as 2027-06-30.
func (d *Date) UnmarshalText(text []byte) error {
	begin, err := time.Parse(time.DateOnly, string(text))
	if err != nil || begin.IsZero() {
		return errors.New("expected a date such as 2027-06-30, got " + strictyaml.Quote(string(text)))
	}
	d.begin = begin
	return nil
}

// IsZero reports whether there is no date.
func (d Date) IsZero() bool { return d.begin.IsZero() }

// End returns when the day is over, the zero time where there is none.
func (d Date) End() time.Time {
	if d.IsZero() {
		return time.Time{}
	}
	return d.begin.AddDate(0, 0, 1)
}

// String returns d as it is read, "" for none.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.begin.Format(time.DateOnly)
}
