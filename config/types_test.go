package config

import (
	"encoding"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
)

// scalar is a pointer to a typed scalar.
type scalar[T any] interface {
	*T
	encoding.TextUnmarshaler
}

// reads checks that text is read as want.
func reads[T comparable, P scalar[T]](t *testing.T, text string, want T) {
	t.Helper()
	var got T
	if err := P(&got).UnmarshalText([]byte(text)); err != nil || got != want {
		t.Errorf("%T.UnmarshalText(%q) set %v, %v, want %v", got, text, got, err, want)
	}
}

// refuses checks that each of texts is refused and leaves the value unchanged.
func refuses[T comparable, P scalar[T]](t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		var got, zero T
		if err := P(&got).UnmarshalText([]byte(text)); err == nil || got != zero {
			t.Errorf("%T.UnmarshalText(%q) set %v, %v, want no change and an error", got, text, got, err)
		}
	}
}

// control has texts that every scalar refuses.
var control = []string{"a\x00", "a\nb", "a\r\nb", "a\x7f", "a\tb", "é", "a b"}

func TestNameTypes(t *testing.T) {
	reads[Name](t, "northwind", "northwind")
	reads[Name](t, "0.a_B-9", "0.a_B-9")
	reads(t, strings.Repeat("n", 64), Name(strings.Repeat("n", 64)))
	refuses[Name](t, "", ".a", "-a", "_a", "a/b", "a,b", strings.Repeat("n", 65))
	refuses[Name](t, control...)

	reads[ClientID](t, "https://client.example/?a=b", "https://client.example/?a=b")
	reads(t, strings.Repeat("c", 128), ClientID(strings.Repeat("c", 128)))
	refuses[ClientID](t, "", strings.Repeat("c", 129))
	refuses[ClientID](t, control...)

	reads[Scope](t, "accounts:read", "accounts:read")
	reads[Scope](t, "!#[]~", "!#[]~")
	refuses[Scope](t, "", `a"b`, `a\b`)
	refuses[Scope](t, control...)

	reads(t, "tls", FromTLS)
	reads(t, "header", FromHeader)
	refuses[CertificateSource](t, "", "TLS", "both")
	reads(t, "rfc9440", FormatRFC9440)
	reads(t, "xfcc", FormatXFCC)
	reads(t, "pem", FormatPEM)
	refuses[HeaderFormat](t, "", "PEM", "der")

	reads(t, "tls_client_auth", TLSClientAuth)
	reads(t, "self_signed_tls_client_auth", SelfSignedTLSClientAuth)
	refuses[Authentication](t, "", "TLS_CLIENT_AUTH", "none", "private_key_jwt")
	reads(t, "jwt", JWT)
	reads(t, "opaque", Opaque)
	refuses[TokenFormat](t, "", "JWT", "at+jwt", "reference")
	for _, a := range []Algorithm{ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512, EdDSA, Ed25519} {
		reads(t, string(a), a)
	}
	refuses[Algorithm](t, "", "none", "None", "HS256", "es256", "RS1", "Ed448", "ES256K", "ES256 ")
}

// Identity headers cannot have names that control the message, or names that can be forged by
// another spelling (T-HDR-16).
func TestHTTPTypes(t *testing.T) {
	reads[Method](t, "GET", "GET")
	reads[Method](t, "M-SEARCH", "M-SEARCH")
	refuses[Method](t, "", "get", "Get", "GET ", "G3T", "*", "CONNECT", "TRACE", "GET,POST")

	reads[HeaderName](t, "", "")
	reads[HeaderName](t, "x-partner-ID", "X-Partner-Id") // T-HDR-03
	reads[HeaderName](t, "tallygate-", "Tallygate-")
	refuses[HeaderName](t, "X-Partner-Id ", " X-Partner-Id", "X_Partner_Id", "X-Partner:", "-X", "X/Y", "é")
	for _, name := range reservedHeaders {
		refuses[HeaderName](t, name, strings.ToLower(name), strings.ToUpper(name))
	}
	refuses[HeaderName](t, "Proxy-Authorization", "proxy-connection", "PROXY-ANYTHING", "proxy-")

	reads[FieldName](t, "x-SSL-client-cert", "X-Ssl-Client-Cert")
	reads[FieldName](t, "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert")
	refuses[FieldName](t, "X_SSL_Client_Cert", "X-SSL-Client-Cert ", "Authorization", "cookie", "Proxy-Authorization", "é")
}

func TestNetTypes(t *testing.T) {
	for _, a := range []Address{":8443", "127.0.0.1:0", "[::1]:65535", "localhost:80", "0.0.0.0:1"} {
		reads(t, string(a), a)
	}
	refuses[Address](t, "", "8443", "localhost", ":", ":https", ":65536", ":-1", "::1:80", "a b:80", "http://a:80", "[::1]")

	reads[Host](t, "API.Example.com", "api.example.com")
	reads[Host](t, "a_b.example", "a_b.example")
	reads[Host](t, "[2001:DB8:0::1]", "2001:db8::1")
	reads[Host](t, "192.0.2.1", "192.0.2.1")
	reads(t, strings.Repeat("a", 63)+".example", Host(strings.Repeat("a", 63)+".example"))
	reads[Host](t, "*.Example.com", "*.example.com")
	refuses[Host](t, "", "*", "*.", "*.com", "*.*.example.com", "a.*.example.com", "*a.example.com", "**.example.com", "*.192.0.2.1", "*.[::1]", "*..com", "api.example.com:443", "a,b", "a@b", "a/b", "https://a", ".a", "a.", "a..b",
		"192.0.2.256", "1.2.3", "[192.0.2.1]", "[::1", "fe80::1%eth0", "[fe80::1%25eth0]", "::1]", "[::1]:80",
		strings.Repeat("a", 64), strings.Repeat("a.", 127)+"ab", "xn--\xff")
	refuses[Host](t, control...)
}

// Networks are read only in their canonical form.
func TestNetwork(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "192.0.2.1": "192.0.2.1/32", "2001:DB8::/32": "2001:db8::/32", "::1": "::1/128", "0.0.0.0/0": "0.0.0.0/0",
	} {
		reads(t, text, Network{netip.MustParsePrefix(want)})
	}
	refuses[Network](t, "", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0", "010.0.0.0/8", "fe80::1%eth0", "fe80::%eth0/64",
		"::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "[::1]", "10.0.0.1:80", "lb.internal", "10.0.0.0/8 ")
	networks := []Network{{netip.MustParsePrefix("10.0.0.0/8")}, {netip.MustParsePrefix("2001:db8::/32")}}
	for text, want := range map[string]bool{
		"10.255.0.1": true, "2001:db8::1": true, "11.0.0.1": false, "2001:db9::1": false, "::ffff:10.0.0.1": false, "::": false, "::a00:1": false,
	} {
		if got := Includes(networks, netip.MustParseAddr(text)); got != want {
			t.Errorf("Includes(%s) = %t, want %t", text, got, want)
		}
	}
	if Includes(nil, netip.MustParseAddr("10.0.0.1")) || Includes(networks, netip.Addr{}) || Includes([]Network{{}}, netip.Addr{}) {
		t.Error("Includes with a zero Network or Addr = true, want false")
	}
}

func TestURLTypes(t *testing.T) {
	for _, s := range []string{"http://127.0.0.1:8080", "https://api.example.com/", "https://[::1]:1/a?b=c"} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		reads(t, s, URL{*u})
	}
	malformed := []string{"", "api.example.com", "//api.example.com", "https:", "https://", "https:///a", "https:a", "http://[::1", "http://a:1:2/",
		"https://a:", "https://a:0", "https://a:65536", "https://a:b", "https://user@a", "https://user:secret@a", "https://@a",
		"https://a#", "https://a#b", "https://a b", "https://a/ ", " https://a", "https://a/\n", "https://a,b", "https://*.a", "https://a../", "ftp://a", "unix:///a"}
	refuses[URL](t, malformed...)
	refuses[Identifier](t, malformed...)

	// An upstream can also be a socket, in one spelling only.
	reads(t, "https://api.example.com/", UpstreamURL{url.URL{Scheme: "https", Host: "api.example.com", Path: "/"}})
	reads(t, "unix:///run/a%2fb?c#d.sock", UpstreamURL{url.URL{Scheme: "unix", Path: "/run/a%2fb?c#d.sock"}})
	refuses[UpstreamURL](t, slices.DeleteFunc(malformed, func(s string) bool { return s == "unix:///a" })...)
	refuses[UpstreamURL](t, "unix:", "unix:/run/a", "unix://run/a", "unix:///", "unix:////a", "unix:///a/", "unix:///a/../b", "unix:///a\x00", "unix:///a\n", "UNIX:///a",
		"unix:///"+strings.Repeat("a", longestSocket))

	for _, i := range []Identifier{"https://as.example.com", "https://AS.example.com/", "https://as.example.com/a/%7E"} {
		reads(t, string(i), i)
	}
	refuses[Identifier](t, "HTTP://as.example.com", "HTTPS://as.example.com", "https://as.example.com?", "https://as.example.com?a=b")
}

// Errors do not quote passwords.
func TestURLSecret(t *testing.T) {
	for _, s := range []string{"https://user:hunter2@a/", "https://user:hunter2@a:b/", "https://user:hunter2@a b", "https://user:hunter2@[::1"} {
		var u URL
		if err := u.UnmarshalText([]byte(s)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("UnmarshalText(%q) error = %v, want one without the password", s, err)
		}
	}
}

func TestValueTypes(t *testing.T) {
	reads[Path](t, "", "")
	reads[Path](t, "a b/ü.pem", "a b/ü.pem")
	refuses[Path](t, "a\nb", "a\rb", "a\x00")

	reads[Bytes](t, "0", 0)
	reads[Bytes](t, "17B", 17)
	reads[Bytes](t, "32KiB", 32<<10)
	reads[Bytes](t, "10MiB", 10<<20)
	reads[Bytes](t, "2GiB", 2<<30)
	reads[Bytes](t, "9223372036854775807", math.MaxInt64)
	refuses[Bytes](t, "", "KiB", "-1", "+1", "1.5MiB", "1kB", "1KB", "1K", "1 KiB", "1KiBB", "0x10", "1_000", "9223372036854775808", "8589934592GiB", "9007199254740992KiB")

	reads(t, "1.2", TLS12)
	reads(t, "1.3", TLS13)
	refuses[TLSVersion](t, "", "1.1", "1.20", "TLS1.3", "2")

	reads(t, "respond", Respond)
	reads(t, "answer", Respond) // its earlier name
	reads(t, "handshake", Handshake)
	refuses[OnFailure](t, "", "Respond", "ignore")

	reads(t, "2027-06-30", Date{time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)})
	refuses[Date](t, "", "2027-6-30", "2027-06-31", "30.06.2027", "2027-06-30T00:00:00Z", "0001-01-01", " 2027-06-30")
	if end := (Date{time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)}).End(); !end.Equal(time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("End() = %s, want 2027-07-01", end)
	}
}

// appendixA is the thumbprint that RFC 8705 Appendix A computes.
const appendixA = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"

// The three notations of a configuration name the same certificate, and no other text is taken.
func TestUnmarshalThumbprint(t *testing.T) {
	const digits = "0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd"
	want, err := access.ParseThumbprint(appendixA)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for i := 0; i < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	colons := strings.Join(pairs, ":")
	for _, text := range []string{appendixA, digits, strings.ToUpper(digits), colons, strings.ToUpper(colons)} {
		var got thumbprintText
		if err := got.UnmarshalText([]byte(text)); err != nil || access.Thumbprint(got) != want {
			t.Errorf("UnmarshalText(%q) set %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", appendixA + "=", appendixA[:42], appendixA[:42] + "1", appendixA + "A", strings.Repeat("A", 43), // padding, length, trailing bits, zero
		"+" + appendixA[1:], "/" + appendixA[1:], strings.Repeat("Q", 42) + "\n", " " + appendixA[1:],
		digits[:63], digits + "0", "g" + digits[1:], strings.Repeat("0", 64),
		colons + ":", ":" + colons[:94], strings.Replace(colons, ":", "-", 1), strings.Replace(colons, "80:", "8:0", 1),
	} {
		got := thumbprintText(want)
		if err := got.UnmarshalText([]byte(text)); err == nil || access.Thumbprint(got) != want {
			t.Errorf("UnmarshalText(%q) set %v, %v, want no change and an error", text, got, err)
		}
	}
}

// String and UnmarshalText are inverse.
func FuzzUnmarshalThumbprint(f *testing.F) {
	for _, s := range []string{appendixA, strings.Repeat("ab", 32), strings.Repeat("ab:", 31) + "ab", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, second thumbprintText
		if first.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := second.UnmarshalText([]byte(access.Thumbprint(first).String())); err != nil || first != second {
			t.Errorf("UnmarshalText(%q) set %v, and its String() %v, %v, want the same", text, first, second, err)
		}
	})
}

// Addresses of one IPv6 /64 count as one client.
func TestClientPrefix(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1": "fe80::/64", "fe80::2%eth0": "fe80::/64",
	} {
		if got := ClientPrefix(netip.MustParseAddr(address)); got.String() != want {
			t.Errorf("ClientPrefix(%s) = %s, want %s", address, got, want)
		}
	}
	if got := ClientPrefix(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("ClientPrefix of the zero Addr = %s, want the zero Prefix", got)
	}
}
