package mtls

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// Where an application lists server_auth, a chain for server authentication alone is accepted and
// marked. Every other fault of such a chain still refuses it.
func TestServerAuth(t *testing.T) {
	server, neither := testpki.Usage(x509.ExtKeyUsageServerAuth), testpki.Usage(x509.ExtKeyUsageCodeSigning)
	ca, other := testpki.NewCA("CA"), testpki.NewCA("Other")
	web := ca.Intermediate("Web", server)
	cfg := configOf(t, true, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	off, err := LoadTrust(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Partners.List[0].Applications = []config.Application{{ClientID: "a", Usages: []config.CertificateUsage{config.UsageClientAuth, config.UsageServerAuth}}}
	on, err := LoadTrust(cfg, Options{Previous: off})
	if err != nil {
		t.Fatal(err)
	}
	if !off.RemovesTrust(on) || on.RemovesTrust(off) {
		t.Errorf("RemovesTrust without server_auth, and with: got %t, %t, want true, false", off.RemovesTrust(on), on.RemovesTrust(off))
	}
	for _, tt := range []struct {
		name       string
		chain      []*x509.Certificate
		off, on    access.Reason
		serverOnly bool
		anchors    int
	}{
		{"for clients", chain(ca.Leaf("a")), access.Granted, access.Granted, false, 1},
		{"for both", chain(ca.Leaf("a", testpki.Usage(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth))), access.Granted, access.Granted, false, 1},
		{"for servers", chain(ca.Leaf("a", server)), access.WrongUsage, access.Granted, true, 1},
		{"for servers, by an authority for servers", chain(web.Leaf("a", server)), access.WrongUsage, access.Granted, true, 1},
		{"without usages, by an authority for servers", chain(web.Leaf("a", testpki.Usage())), access.WrongUsage, access.Granted, true, 1},
		{"for both, by an authority for servers", chain(web.Leaf("a")), access.WrongUsage, access.Granted, true, 1},
		{"for clients, by an authority for servers", chain(web.Leaf("a", testpki.Usage(x509.ExtKeyUsageClientAuth))), access.WrongUsage, access.WrongUsage, false, 0},
		{"for neither", chain(ca.Leaf("a", neither)), access.WrongUsage, access.WrongUsage, false, 0},
		{"self-signed, for servers", chain(testpki.SelfSigned("a", server)), access.WrongUsage, access.Granted, true, 0},
		{"by another authority, for servers", chain(other.Leaf("a", server)), access.WrongUsage, access.Granted, true, 0},
		{"self-signed, for neither", chain(testpki.SelfSigned("a", neither)), access.WrongUsage, access.WrongUsage, false, 0},
		{"an authority for servers", chain(web), access.WrongUsage, access.WrongUsage, false, 0},
		{"expired, for servers", chain(ca.Leaf("a", server, testpki.Expired())), access.ExpiredCertificate, access.ExpiredCertificate, false, 0},
	} {
		if _, err := client(off, tt.chain); reason(err) != tt.off {
			t.Errorf("%s, default: got %v, want %s", tt.name, err, tt.off)
		}
		got, err := client(on, tt.chain)
		if reason(err) != tt.on || reason(on.checkConnection(tt.chain, time.Now())) != tt.on {
			t.Errorf("%s, with server_auth: got %v, want %s", tt.name, err, tt.on)
		}
		if err == nil && (got.ServerOnly != tt.serverOnly || len(got.Anchors) != tt.anchors) {
			t.Errorf("%s: got ServerOnly %t and %d anchors, want %t and %d", tt.name, got.ServerOnly, len(got.Anchors), tt.serverOnly, tt.anchors)
		}
	}
}
