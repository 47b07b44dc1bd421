package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	endian "encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

// A mute signer has a public key and cannot sign.
type muteSigner struct{ crypto.PublicKey }

func (s muteSigner) Public() crypto.PublicKey { return s.PublicKey }
func (s muteSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 2048), nil
}

// hugeRSA returns a certificate from ca for a public key of 16,384 bits without a private key.
func hugeRSA(t *testing.T, ca *testpki.Pair) tls.Certificate {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 16384))
	if err != nil {
		t.Fatal(err)
	}
	key := &rsa.PublicKey{N: n.SetBit(n.SetBit(n, 16383, 1), 0, 1), E: 65537}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ledger"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, ca.Cert, key, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: muteSigner{key}}
}

// nested returns DER of nested sequences, and a sequence with the largest possible length.
func nested(depth int) []byte {
	der := []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}
	for range depth {
		length := endian.BigEndian.AppendUint32(nil, uint32(len(der)))
		der = append(append([]byte{0x30, 0x84}, length...), der...)
	}
	return der
}

// T-TLS-10, 15, 16, 17, 20, 26: bytes that an unauthenticated client sends during the handshake can
// end only the client's own connection, and cannot write a line of the log.
func TestHostileHandshakes(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.check(err)
	crowd := r.pairs["northwind"].TLS()
	for range 1000 {
		crowd.Certificate = append(crowd.Certificate, r.pairs["borealis-ca"].Cert.Raw)
	}
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("n%d.example.test", i)
	}
	showing := func(c tls.Certificate) func(*tls.Config) {
		return func(settings *tls.Config) {
			settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		}
	}
	good, _ := r.visitor("northwind", "good", true, 0)
	for name, edit := range map[string]func(*tls.Config){
		"a thousand intermediates": showing(crowd),
		"ten thousand names":       showing(r.pairs["northwind-ca"].Leaf("ledger", testpki.DNS(names...)).TLS()),
		"a key of 16,384 bits":     showing(hugeRSA(t, r.pairs["northwind-ca"])),
		"no certificate at all":    showing(tls.Certificate{Certificate: [][]byte{{1, 2, 3}}, PrivateKey: key}),
		"deeply nested":            showing(tls.Certificate{Certificate: [][]byte{nested(2000)}, PrivateKey: key}),
		"another's key":            showing(tls.Certificate{Certificate: r.pairs["northwind"].TLS().Certificate, PrivateKey: key}),
		"a protocol that lies":     func(c *tls.Config) { c.NextProtos = []string{"\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}"} },
		"TLS 1.1":                  func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
	} {
		settings := r.client("northwind", "http/1.1")
		edit(settings)
		started := time.Now()
		status, err := knock(r.addresses["partners"], settings)
		if err == nil && status != 401 {
			t.Errorf("%s: answered with %d", name, status)
		}
		t.Logf("%s: %s, %v %v", name, time.Since(started).Round(time.Millisecond), status, err)
		if v, err := good(); err != nil || v.status != 200 {
			t.Errorf("after %s: %+v, %v", name, v, err)
		}
	}
	if answer := plain(t, r.addresses["partners"]); !strings.HasPrefix(answer, "HTTP/1.0 400 ") {
		t.Errorf("plain HTTP is answered with %q", answer)
	}
	if received, n := r.upstream.peek(); n != 8 || bytes.Contains(received, []byte("canary")) {
		t.Errorf("%d requests reached the upstream:\n%s", n, received)
	}
	r.check(r.stop())
	log := r.log.Bytes()
	if bytes.Contains(log, []byte("canary")) || bytes.Contains(log, []byte("\nforged")) || bytes.Contains(log, []byte(`"level":"ERROR"`)) {
		t.Errorf("the log says\n%s", log)
	}
}

// knock sends a request over TLS without a token and returns the status.
func knock(address string, settings *tls.Config) (int, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, settings)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return 0, err
	}
	var status int
	_, err = fmt.Sscanf(string(text), "HTTP/1.1 %d", &status)
	return status, err
}

// plain sends HTTP without TLS and returns the response.
func plain(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nTallygate-Partner: canary\r\n\r\n")
	text, _ := io.ReadAll(conn)
	return string(text)
}

// A splitting connection sends its first message, a ClientHello, as records of one byte, one byte
// at a time.
type splitting struct {
	net.Conn
	began bool
}

func (c *splitting) Write(p []byte) (int, error) {
	if c.began || len(p) < 6 || p[0] != 22 { // a handshake record
		return c.Conn.Write(p)
	}
	c.began = true
	for _, b := range p[5:] {
		for _, one := range []byte{22, p[1], p[2], 0, 1, b} {
			if _, err := c.Conn.Write([]byte{one}); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// T-TLS-21: a ClientHello in many records and segments has the same result as a whole ClientHello,
// with and without a client certificate.
func TestSplitClientHello(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	for certificate, want := range map[string]int{"northwind": 200, "borealis": 401, "": 401} {
		transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			settings := r.client(certificate)
			settings.CurvePreferences = []tls.CurveID{tls.X25519} // a short one: each record costs time
			return tls.Client(&splitting{Conn: conn}, settings), nil
		}}
		request := accountRequest(t.Context(), r.addresses["partners"], r.tokens["good"])
		answer, err := transport.RoundTrip(request)
		r.check(err)
		_ = answer.Body.Close()
		transport.CloseIdleConnections()
		if answer.StatusCode != want {
			t.Errorf("with %q: %s, want %d", certificate, answer.Status, want)
		}
	}
	if _, n := r.upstream.peek(); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
	r.check(r.stop())
}

// T-TLS-02: a certificate that has expired since the handshake is refused, on open connections and
// on resumed sessions.
func TestExpiryBetweenHandshakes(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	end := time.Now().Add(3 * time.Second).Truncate(time.Second)
	r.pairs["brief"] = r.pairs["northwind-ca"].Leaf("ledger", testpki.DNS("ledger.northwind.example"), testpki.Valid(time.Now().Add(-time.Hour), end))
	r.check(r.mint([]string{"brief", "brief", "northwind-ledger"}))
	for _, maximum := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		open, _ := r.visitor("brief", "brief", false, maximum)
		again, connections := r.visitor("brief", "brief", false, maximum)
		for _, visit := range []func() (visit, error){open, again} {
			if v, err := visit(); time.Now().Before(end) && (err != nil || v.status != 200) {
				t.Fatalf("before the end of the certificate: got %+v, %v, want 200", v, err)
			}
		}
		connections.CloseIdleConnections()
		defer func() {
			time.Sleep(time.Until(end.Add(time.Second)))
			r.upstream.forget()
			for name, visit := range map[string]func() (visit, error){"open": open, "resumed": again} {
				if v, err := visit(); err != nil || v.status != 401 || !strings.Contains(v.body, "expired_certificate") {
					t.Errorf("%s: %+v, %v", name, v, err)
				}
			}
			if _, n := r.upstream.peek(); n != 0 {
				t.Errorf("%d requests reached the upstream", n)
			}
		}()
	}
}
