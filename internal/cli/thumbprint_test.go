package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/explain"
	"github.com/tallygate/tallygate/internal/testpki"
)

// RFC 8705 appendix A.
const (
	rfc8705Certificate = `-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
-----END CERTIFICATE-----
`
	rfc8705Thumbprint = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"
	rfc8705Hex        = "0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd"
)

// write stores content in a new folder and returns its path.
func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func concat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func TestThumbprintOfFile(t *testing.T) {
	first, second := testpki.SelfSigned("first"), testpki.SelfSigned("second")
	block, _ := pem.Decode([]byte(rfc8705Certificate))
	appendixA := "x5t#S256  " + rfc8705Thumbprint + "\nsha256    " + rfc8705Hex + "\n"
	for _, tt := range []struct {
		name    string
		Digest  []byte
		want    string // beginning of the output
		several bool   // told that there are more
	}{
		{"PEM, RFC 8705 appendix A", []byte(rfc8705Certificate), appendixA, false},
		{"PEM with text around", []byte("subject=CN=mtls\n" + rfc8705Certificate + "the end\n"), appendixA, false},
		{"PEM with CRLF", []byte(strings.ReplaceAll(rfc8705Certificate, "\n", "\r\n")), appendixA, false},
		{"DER", block.Bytes, appendixA, false},
		{"chain", concat(first.CertPEM(), second.CertPEM()), "x5t#S256  " + first.Thumbprint() + "\n", true},
		{"key before the certificate", concat(first.KeyPEM(), first.CertPEM()), "x5t#S256  " + first.Thumbprint() + "\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := command(t, "thumbprint", write(t, "a.crt", tt.Digest))
			if code != ExitOK || !strings.HasPrefix(stdout, tt.want) || strings.Count(stdout, "\n") != 2 {
				t.Errorf("got exit code %d and output %q, want 0 and %q", code, stdout, tt.want)
			}
			if got := strings.Contains(stderr, "holds 2 certificates"); got != tt.several {
				t.Errorf("got words %q, told of several: %t, want %t", stderr, got, tt.several)
			}
		})
	}
}

func TestThumbprintOfNoCertificate(t *testing.T) {
	pair := testpki.SelfSigned("a")
	sec1, err := x509.MarshalECPrivateKey(pair.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, _ := pem.Decode(pair.KeyPEM())
	request, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	const aKey = "a private key"
	for _, tt := range []struct {
		name   string
		Digest []byte
		words  string
	}{
		{"key, PEM", pair.KeyPEM(), aKey},
		{"key, PEM, SEC 1", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}), aKey},
		{"key, DER, PKCS 8", pkcs8.Bytes, aKey},
		{"key, DER, SEC 1", sec1, aKey},
		{"certificate request", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), "CERTIFICATE REQUEST"},
		{"empty", nil, "neither PEM nor a DER certificate"},
		{"text", []byte("hello"), "neither PEM nor a DER certificate"},
		{"DER with a line break behind", append(slices.Clone(pair.Cert.Raw), '\n'), "neither PEM nor a DER certificate"},
		{"broken PEM", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Cert.Raw[1:]}), "x509"},
		{"too large", bytes.Repeat([]byte("a"), maxCertificateFile+1), "larger than 1048576 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := command(t, "thumbprint", write(t, "a.crt", tt.Digest))
			if code != ExitFailure || stdout != "" || !strings.Contains(stderr, tt.words) {
				t.Errorf("got exit code %d, output %q and words %q, want 1, none and %q", code, stdout, stderr, tt.words)
			}
		})
	}
	for _, source := range []string{t.TempDir(), filepath.Join(t.TempDir(), "nosuch"), "example.com", ":443", "host:port", "host:65536"} {
		if code, stdout, _ := command(t, "thumbprint", source); code != ExitFailure || stdout != "" {
			t.Errorf("%s: got exit code %d and output %q, want 1 and none", source, code, stdout)
		}
	}
}

func TestThumbprintOfStandardInput(t *testing.T) {
	in, err := os.Open(write(t, "a.pem", []byte(rfc8705Certificate)))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer func(was *os.File) { os.Stdin = was }(os.Stdin)
	os.Stdin = in
	if code, stdout, _ := command(t, "thumbprint", "-"); code != ExitOK || !strings.Contains(stdout, rfc8705Thumbprint) {
		t.Errorf("got exit code %d and output %q", code, stdout)
	}
}

// A bad source does not hide the others, and makes the exit code 1.
func TestThumbprintOfSeveral(t *testing.T) {
	a, b := testpki.SelfSigned("a"), testpki.SelfSigned("b", testpki.DNS("b.example", "*.b.example"), testpki.IP("192.0.2.1"))
	fileA, fileB := write(t, "a.pem", a.CertPEM()), write(t, "b.pem", b.CertPEM())
	code, stdout, stderr := command(t, "thumbprint", "-o", "json", fileA, write(t, "key.pem", a.KeyPEM()), fileB)
	if code != ExitFailure || !strings.Contains(stderr, "1 of 3 sources") {
		t.Errorf("got exit code %d and words %q, want 1 and what is missing", code, stderr)
	}
	var got []explain.Certificate
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	want := []explain.Certificate{
		{Source: fileA, Thumbprint: a.Thumbprint(), Subject: "CN=a", Issuer: "CN=a", NotBefore: a.Cert.NotBefore, NotAfter: a.Cert.NotAfter, Names: []string{}},
		{Source: fileB, Thumbprint: b.Thumbprint(), Subject: "CN=b", Issuer: "CN=b", NotBefore: b.Cert.NotBefore, NotAfter: b.Cert.NotAfter,
			Names: []string{"DNS:b.example", "DNS:*.b.example", "IP:192.0.2.1"}},
	}
	if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Hex" }, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
}

// Names come from the creator of the certificate and must not control the terminal.
func TestThumbprintQuotesNames(t *testing.T) {
	pair := testpki.SelfSigned("", testpki.Subject(pkix.Name{CommonName: "a\x1b[2Jb"}))
	code, _, stderr := command(t, "thumbprint", write(t, "a.pem", pair.CertPEM()))
	if code != ExitOK || strings.Contains(stderr, "\x1b") || !strings.Contains(stderr, `CN=a\x1b[2Jb`) {
		t.Errorf("got exit code %d and words %q, want the name quoted", code, stderr)
	}
}

// Each line of --all is a valid setting that registers the certificate.
func TestThumbprintAll(t *testing.T) {
	spiffe := &url.URL{Scheme: "spiffe", Host: "northwind.example", Path: "/ledger"}
	pair := testpki.SelfSigned("", testpki.DNS("b.example", "*.b.example", "a\x1b[2J.example"), testpki.IP("192.0.2.1", "2001:db8::1"),
		testpki.Subject(pkix.Name{CommonName: "a\x1b[2J\u009bb", Organization: []string{`Acme, "Inc."`}, OrganizationalUnit: []string{"y", "x"}}),
		func(c *x509.Certificate) {
			c.URIs, c.EmailAddresses = []*url.URL{spiffe}, []string{"ledger@b.example", "\x1b[2J@b.example"}
		})
	file := write(t, "a.pem", pair.CertPEM())
	code, stdout, stderr := command(t, "thumbprint", "--all", file)
	digest, err := base64.RawURLEncoding.DecodeString(pair.Thumbprint())
	if err != nil {
		t.Fatal(err)
	}
	want := `subject_dn: "CN=a\\1b[2J\\c2\\9bb,OU=x+OU=y,O=Acme\\, \\\"Inc.\\\""
san_dns: "b.example"
san_dns: "*.b.example"
san_uri: "spiffe://northwind.example/ledger"
san_ip: "192.0.2.1"
san_ip: "2001:db8::1"
san_email: "ledger@b.example"
thumbprints: ["` + pair.Thumbprint() + `"]
thumbprints: ["` + hex.EncodeToString(digest) + `"]
`
	if diff := cmp.Diff(want, stdout); code != ExitOK || diff != "" {
		t.Fatalf("exit code %d (-want +got):\n%s", code, diff)
	}
	if strings.ContainsFunc(strings.ReplaceAll(stdout+stderr, "\n", ""), func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("a name reaches the terminal raw: %q", stdout+stderr)
	}
	for line := range strings.Lines(stdout) {
		registered := register(t, line)
		if !registered.MatchesName(pair.Cert) && !registered.HasThumbprint(sha256.Sum256(pair.Cert.Raw)) {
			t.Errorf("%s does not register the certificate", line)
		}
	}

	code, stdout, _ = command(t, "thumbprint", "--all", "-o", "json", file)
	var shown []explain.Certificate
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil || code != ExitOK || len(shown) != 1 || len(shown[0].Registrable) != 9 {
		t.Errorf("exit code %d, %v, output %s", code, err, stdout)
	}
	if code, stdout, _ = command(t, "thumbprint", "-o", "json", file); code != ExitOK || strings.Contains(stdout, "registrable") {
		t.Errorf("without --all: exit code %d, output %s", code, stdout)
	}
}

// register returns the registration that line makes in a configuration.
func register(t *testing.T, line string) config.RegisteredCertificate {
	t.Helper()
	c, err := config.Parse("a.yaml", "", []byte(`listener: {certificate: {files: {certificate: a, key: b}}}
authorization_servers: [{name: as, issuer: "https://as.example", audiences: [a], key_set: {file: c}}]
apis: [{name: accounts, hosts: [a.example], upstream: {url: "http://127.0.0.1"}, routes: [{methods: [GET], path: /a}]}]
partners:
  list:
    - name: northwind
      trust: [d]
      applications:
        - client_id: ledger
          apis: [accounts]
          certificate:
            `+line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return c.Partners.List[0].Applications[0].Certificate
}

func TestThumbprintOfServer(t *testing.T) {
	trusted := testpki.NewCA("somebody")
	for _, tt := range []struct {
		name   string
		shows  *testpki.Pair
		config *tls.Config
	}{
		{"authority unknown here", testpki.NewCA("ca").Leaf("server"), &tls.Config{}},
		{"expired", testpki.SelfSigned("server", testpki.Expired()), &tls.Config{}},
		{"chain", testpki.NewCA("root").Intermediate("between").Leaf("server"), &tls.Config{}},
		{"wants a client certificate, TLS 1.3", testpki.SelfSigned("server"),
			&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: testpki.Pool(trusted)}},
		{"wants a client certificate, TLS 1.2", testpki.SelfSigned("server"),
			&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: testpki.Pool(trusted), MaxVersion: tls.VersionTLS12}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Certificates = []tls.Certificate{tt.shows.TLS()}
			received := make(chan int64, 1)
			address := listen(t, func(conn net.Conn) {
				n, _ := io.Copy(io.Discard, tls.Server(conn, tt.config))
				received <- n
			})
			code, stdout, stderr := command(t, "thumbprint", address)
			if code != ExitOK || !strings.HasPrefix(stdout, "x5t#S256  "+tt.shows.Thumbprint()+"\n") {
				t.Errorf("got exit code %d, output %q and words %q, want 0 and %s", code, stdout, stderr, tt.shows.Thumbprint())
			}
			if n := <-received; n != 0 {
				t.Errorf("sent %d bytes to a server that was not verified", n)
			}
		})
	}
}

func TestThumbprintOfServerWithoutOne(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(net.Conn)
	}{
		{"closes", func(net.Conn) {}},
		{"speaks something else", func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example ready\r\n") }},
		{"speaks TLS 1.1", func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{testpki.SelfSigned("a").TLS()}, MaxVersion: tls.VersionTLS11}).Handshake()
		}},
	} {
		if code, stdout, stderr := command(t, "thumbprint", listen(t, tt.serve)); code != ExitFailure || stdout != "" || stderr == "" {
			t.Errorf("%s: got exit code %d, output %q and words %q, want 1 and a complaint", tt.name, code, stdout, stderr)
		}
	}
}

func TestThumbprintOfSilentServer(t *testing.T) {
	address := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if code := Run(ctx, []string{"thumbprint", address}, io.Discard, io.Discard); code != ExitFailure {
		t.Errorf("got exit code %d, want %d", code, ExitFailure)
	}
}

// An existing file takes precedence over a server of the same name.
func TestThumbprintOfFileNamedLikeServer(t *testing.T) {
	pair := testpki.SelfSigned("a")
	t.Chdir(filepath.Dir(write(t, "host:443", pair.CertPEM())))
	if code, stdout, _ := command(t, "thumbprint", "host:443"); code != ExitOK || !strings.Contains(stdout, pair.Thumbprint()) {
		t.Errorf("got exit code %d and output %q", code, stdout)
	}
}

// listen calls serve for each connection to the returned loopback address, and then closes it.
func listen(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}
