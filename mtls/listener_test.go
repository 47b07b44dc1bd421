package mtls

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// listen accepts connections one at a time and reports the state of each handshake.
func listen(t *testing.T, settings *tls.Config) (address string, results chan result) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", settings)
	if err != nil {
		t.Fatal(err)
	}
	results = make(chan result, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := c.(*tls.Conn)
			err = conn.HandshakeContext(t.Context())
			results <- result{conn.ConnectionState(), err}
			if err == nil {
				_, _ = conn.Write([]byte("x")) // carries the session ticket
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), results
}

type result struct {
	state tls.ConnectionState
	err   error
}

func dial(t *testing.T, address string, settings *tls.Config) error {
	t.Helper()
	conn, err := tls.Dial("tcp", address, settings)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	n, err := conn.Read(make([]byte, 1)) // in TLS 1.3 the server's alert comes after the handshake
	if n == 1 {
		return nil
	}
	return err
}

func TestServerConfig(t *testing.T) {
	ca, server := testpki.NewCA("Root"), testpki.SelfSigned("gate", testpki.IP("127.0.0.1"))
	good, untrusted := ca.Leaf("a").TLS(), testpki.SelfSigned("a").TLS()
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	roots := testpki.Pool(server)
	tests := []struct {
		name      string
		onFailure config.OnFailure
		client    *tls.Certificate
		version   uint16
		alert     string // "" when the handshake is finished
		counted   [2]string
	}{
		{"respond, good", config.Respond, &good, tls.VersionTLS13, "", [2]string{"completed", "none"}},
		{"respond, untrusted", config.Respond, &untrusted, tls.VersionTLS13, "", [2]string{"completed", "untrusted_certificate"}},
		{"respond, none", config.Respond, nil, tls.VersionTLS12, "", [2]string{"completed", "no_certificate"}},
		{"handshake, good", config.Handshake, &good, tls.VersionTLS12, "", [2]string{"completed", "none"}},
		{"handshake, untrusted", config.Handshake, &untrusted, tls.VersionTLS13, "bad certificate", [2]string{"refused", "untrusted_certificate"}},
		{"handshake, untrusted, TLS 1.2", config.Handshake, &untrusted, tls.VersionTLS12, "bad certificate", [2]string{"refused", "untrusted_certificate"}},
		{"handshake, none", config.Handshake, nil, tls.VersionTLS13, "certificate required", [2]string{"", ""}},
		{"handshake, none, TLS 1.2", config.Handshake, nil, tls.VersionTLS12, "handshake failure", [2]string{"", ""}},
		{"too old a version", config.Respond, &good, tls.VersionTLS11, "protocol version not supported", [2]string{"", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			handshakes := NewHandshakes(prometheus.NewRegistry())
			settings := ServerConfig(func() *Trust { return trust }, server.TLS(), config.TLS12, tt.onFailure, handshakes)
			address, _ := listen(t, settings)
			client := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tt.version}
			if tt.client != nil {
				// The client sends its certificate for any authorities that the server names, as curl does.
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.client, nil }
			}
			err := dial(t, address, client)
			if tt.alert == "" && err != nil {
				t.Errorf("the client got %v, want no error", err)
			}
			var op *net.OpError
			if tt.alert != "" && (!errors.As(err, &op) || op.Err.Error() != "tls: "+tt.alert) {
				t.Errorf("the client got %v, want the alert %q", err, tt.alert)
			}
			if tt.counted[0] != "" {
				if n := testutil.ToFloat64(handshakes.total.WithLabelValues(tt.counted[0], tt.counted[1], tls.VersionName(tt.version))); n != 1 {
					t.Errorf("%v counts %v", tt.counted, n)
				}
			}
		})
	}
}

// RFC 9325 section 4.2: TLS 1.2 only with forward secrecy and authenticated encryption. A handshake uses
// post-quantum key exchange if both sides support it (T-TLS-19).
func TestCipherSuites(t *testing.T) {
	ca, server := testpki.NewCA("Root"), testpki.SelfSigned("gate", testpki.IP("127.0.0.1"))
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	settings := ServerConfig(func() *Trust { return trust }, server.TLS(), config.TLS12, config.Respond, NewHandshakes(prometheus.NewRegistry()))
	address, results := listen(t, settings)
	client := ca.Leaf("a").TLS()
	ask := func(edit func(*tls.Config)) (tls.ConnectionState, error) {
		asking := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{client}}
		edit(asking)
		err := dial(t, address, asking)
		r := <-results
		if r.err != nil {
			err = r.err
		}
		return r.state, err
	}
	taken := 0
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if !slices.Contains(suite.SupportedVersions, uint16(tls.VersionTLS12)) {
			continue
		}
		safe := strings.HasPrefix(suite.Name, "TLS_ECDHE_") && (strings.Contains(suite.Name, "_GCM_") || strings.Contains(suite.Name, "_POLY1305_"))
		fits := strings.Contains(suite.Name, "_ECDSA_") // the gate's key is an ECDSA key
		_, err := ask(func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite.ID} })
		if (err == nil) != (safe && fits) {
			t.Errorf("%s: %v", suite.Name, err)
		}
		if err == nil {
			taken++
		}
	}
	if taken != 3 {
		t.Errorf("%d suites of TLS 1.2 are taken, want AES of both lengths and ChaCha20", taken)
	}
	if state, err := ask(func(*tls.Config) {}); err != nil || state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("%s by %s, %v; want TLS 1.3 by X25519MLKEM768", tls.VersionName(state.Version), state.CurveID, err)
	}
}

// The list of acceptable authorities is empty, so it names no partner, and clients that follow it send
// their certificate.
func TestServerConfigNamesNoPartner(t *testing.T) {
	ca, server := testpki.NewCA("Secret Partner"), testpki.SelfSigned("gate", testpki.IP("127.0.0.1"))
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	settings := ServerConfig(func() *Trust { return trust }, server.TLS(), config.TLS12, config.Respond, NewHandshakes(prometheus.NewRegistry()))
	if settings.ClientCAs == nil {
		t.Fatal("ClientCAs is nil, which means the roots of the system; want an empty pool")
	}
	address, _ := listen(t, settings)
	roots := testpki.Pool(server)
	var asked *tls.CertificateRequestInfo
	err := dial(t, address, &tls.Config{RootCAs: roots, GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = info
		return &tls.Certificate{}, nil
	}})
	if err != nil || asked == nil || len(asked.AcceptableCAs) != 0 {
		t.Errorf("%v; the client was asked %+v", err, asked)
	}
}

// resume connects twice with pair under the Trust before, the second time with the session of the first
// connection. Then it presents the same session under the Trust after, and returns the error of that handshake.
func resume(t *testing.T, version uint16, pair *testpki.Pair, before, after *Trust) (states [2]tls.ConnectionState, refusal error) {
	t.Helper()
	server := testpki.SelfSigned("gate", testpki.IP("127.0.0.1"))
	client := &tls.Config{
		RootCAs: testpki.Pool(server), MaxVersion: version, ServerName: "127.0.0.1", Certificates: []tls.Certificate{pair.TLS()},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	handshakes := NewHandshakes(prometheus.NewRegistry())
	serve := func(trust *Trust) (address string, results chan result) {
		settings := ServerConfig(func() *Trust { return trust }, server.TLS(), config.TLS12, config.Handshake, handshakes)
		settings.SetSessionTicketKeys([][32]byte{{1}})
		return listen(t, settings)
	}
	address, results := serve(before)
	for i := range states {
		if err := dial(t, address, client); err != nil {
			t.Fatal(err)
		}
		r := <-results
		if r.err != nil || r.state.DidResume != (i == 1) || len(r.state.PeerCertificates) != 1 {
			t.Fatalf("connection %d: %v, resumed %v, %d certificates, want no error, %v, 1", i+1, r.err, r.state.DidResume, len(r.state.PeerCertificates), i == 1)
		}
		states[i] = r.state
	}
	address, results = serve(after)
	if err := dial(t, address, client); err == nil {
		t.Error("the handshake of the resumed session succeeded, want an error")
	}
	return states, (<-results).err
}

// The certificate of a resumed session is checked again. Under a Trust with other anchors and the same ticket
// keys, the ticket is valid and the certificate is refused.
func TestResumedSessionsAreJudged(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := testpki.NewCA("Root")
			before := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
			after := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {testpki.NewCA("Root")}})
			if _, err := resume(t, version, ca.Leaf("a"), before, after); access.ReasonOf(err) != access.UntrustedCertificate {
				t.Errorf("the handshake ended with %v, want %s", err, access.UntrustedCertificate)
			}
		})
	}
}

// A self-signed certificate with the CA bit is accepted without anchors on new and resumed sessions. When
// self-signed certificates are disabled, the resumed session is refused too.
func TestSelfSignedAuthority(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			anchors := map[config.Name][]*testpki.Pair{"northwind": {testpki.NewCA("Root")}}
			enabled, disabled := load(t, true, anchors), load(t, false, anchors)
			states, err := resume(t, version, testpki.NewCA("client"), enabled, disabled)
			for i, state := range states {
				if c, err := enabled.Client(&http.Request{TLS: &state}); err != nil || len(c.Anchors) > 0 {
					t.Errorf("connection %d: Client returned %+v, %v, want a certificate without anchors", i+1, c, err)
				}
			}
			if access.ReasonOf(err) != access.WrongUsage {
				t.Errorf("the handshake ended with %v, want %s", err, access.WrongUsage)
			}
		})
	}
}
