package assumptions

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// The errors of a failed handshake have no types, only texts. An alert of the client has the operation
// "remote error" and the text of its AlertError.
func TestAssumesHandshakeErrors(t *testing.T) {
	ca := testpki.NewCA("ca")
	gate, client := ca.Leaf("gate", testpki.DNS("gate.test")), ca.Leaf("client")
	good := func() *tls.Config {
		return &tls.Config{RootCAs: testpki.Pool(ca), ServerName: "gate.test", Certificates: []tls.Certificate{client.TLS()}}
	}
	accept := func(certificate tls.ClientAuthType, settings *tls.Config) error {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		near, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var handshake sync.WaitGroup
		handshake.Go(func() { _ = tls.Client(near, settings).Handshake() })
		defer handshake.Wait()
		defer func() { _, _ = near.Close(), far.Close() }()
		return tls.Server(far, &tls.Config{
			Certificates: []tls.Certificate{gate.TLS()}, MinVersion: tls.VersionTLS12, ClientAuth: certificate, NextProtos: []string{"http/1.1"},
		}).Handshake()
	}
	for begins, edit := range map[string]func(*tls.Config){
		"tls: client didn't provide a certificate":                func(s *tls.Config) { s.Certificates = nil },
		"tls: failed to parse client certificate: ":               func(s *tls.Config) { s.Certificates[0].Certificate = [][]byte{{1}} },
		"tls: invalid signature by the client certificate":        func(s *tls.Config) { s.Certificates[0].PrivateKey = gate.Key },
		"tls: client offered only unsupported versions":           func(s *tls.Config) { s.MinVersion, s.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"tls: client requested unsupported application protocols": func(s *tls.Config) { s.NextProtos = []string{"spdy/3"} },
		"tls: no cipher suite supported by both client and server": func(s *tls.Config) {
			s.MaxVersion, s.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		},
		"remote error: " + tls.AlertError(42).Error() + "|bad_certificate": func(s *tls.Config) { s.RootCAs = testpki.Pool(testpki.NewCA("other")) },
	} {
		settings := good()
		edit(settings)
		err := accept(tls.RequireAnyClientCert, settings)
		want, alert, isAlert := strings.Cut(begins, "|")
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Handshake = %v, want an error that begins with %q", err, want)
			continue
		}
		var op *net.OpError
		if isAlert && (!errors.As(err, &op) || op.Op != "remote error" || op.Err.Error() != tls.AlertError(42).Error()) {
			t.Errorf("Handshake = %#v, want a *net.OpError for the alert %s", err, alert)
		}
	}
}
