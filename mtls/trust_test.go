package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// load writes the anchors of each partner to files and returns a Trust for them.
func load(t *testing.T, selfSigned bool, anchors map[config.Name][]*testpki.Pair) *Trust {
	t.Helper()
	return loadAfter(t, nil, selfSigned, anchors)
}

// loadAfter is load with a previous Trust.
func loadAfter(t *testing.T, previous *Trust, selfSigned bool, anchors map[config.Name][]*testpki.Pair) *Trust {
	t.Helper()
	trust, err := LoadTrust(configOf(t, selfSigned, anchors), Options{Previous: previous})
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// configOf returns a configuration with a partner for each name in anchors.
func configOf(t *testing.T, selfSigned bool, anchors map[config.Name][]*testpki.Pair) *config.Config {
	t.Helper()
	cfg := &config.Config{}
	cfg.Listener.ClientCertificates.SelfSigned = selfSigned
	dir := t.TempDir()
	for partner, list := range anchors {
		p := config.Partner{Name: partner}
		for i, ca := range list {
			file, _ := ca.Write(dir, string(partner)+string(rune('a'+i)))
			p.Trust = append(p.Trust, config.Path(file))
		}
		cfg.Partners.List = append(cfg.Partners.List, p)
	}
	return cfg
}

func chain(p *testpki.Pair, more ...*testpki.Pair) []*x509.Certificate {
	list := append([]*x509.Certificate{p.Cert}, p.Intermediates...)
	for _, m := range more {
		list = append(list, m.Cert)
	}
	return list
}

// connected returns a request on a connection whose client presented chain.
func connected(chain []*x509.Certificate) *http.Request {
	return &http.Request{TLS: &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: chain}}
}

func client(t *Trust, chain []*x509.Certificate) (*access.Certificate, error) {
	return t.Client(connected(chain))
}

func reason(err error) access.Reason {
	if err == nil {
		return access.Granted
	}
	return access.ReasonOf(err)
}

func TestClient(t *testing.T) {
	now := time.Now()
	northwind, borealis := testpki.NewCA("Partner Root"), testpki.NewCA("Partner Root") // one name, two authorities
	issuing := northwind.Intermediate("Northwind Issuing")
	dying := northwind.Intermediate("Northwind Old", testpki.Valid(now.Add(-48*time.Hour), now.Add(-time.Hour)))
	untrusted := testpki.NewCA("Partner Root")
	victim := northwind.Leaf("victim")
	postal := northwind.Intermediate("Postal", func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.PermittedDNSDomainsCritical = []string{"x@a.test", "x@b.test"}, true
	})
	mail := func(address string) testpki.Option {
		return func(c *x509.Certificate) { c.EmailAddresses = []string{address} }
	}
	constrained := northwind.Intermediate("Northwind Constrained", func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"northwind.example"}
	})
	serverOnly := testpki.Usage(x509.ExtKeyUsageServerAuth)
	// Certificates as "openssl req -x509" makes them.
	caBit := func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }
	noUsage := func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = 0, nil }
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	}
	renewed := issue(northwind, northwind)
	forged := issue(northwind, testpki.SelfSigned("a"))

	tests := []struct {
		name       string
		chain      []*x509.Certificate
		want       access.Reason // Granted: let through
		selfSigned access.Reason // the same where self-signed certificates are taken
	}{
		{"no certificate", nil, access.NoCertificate, access.NoCertificate},
		{"a good one", chain(northwind.Leaf("a")), access.Granted, access.Granted},
		{"through an intermediate", chain(issuing.Leaf("a")), access.Granted, access.Granted},
		{"intermediate missing, T-TLS-13", chain(issuing.Leaf("a"))[:1], access.UntrustedCertificate, access.Granted},
		{"an authority of the same name", chain(untrusted.Leaf("a")), access.UntrustedCertificate, access.Granted},
		{"an untrusted client that adds a victim's leaf, T-TLS-09", chain(untrusted.Leaf("victim"), victim), access.UntrustedCertificate, access.Granted},
		{"an untrusted client that adds the anchor", chain(untrusted.Leaf("a"), northwind), access.UntrustedCertificate, access.Granted},
		{"self-signed", chain(testpki.SelfSigned("a")), access.UntrustedCertificate, access.Granted},
		{"expired", chain(northwind.Leaf("a", testpki.Expired())), access.ExpiredCertificate, access.ExpiredCertificate},
		{"not valid yet", chain(northwind.Leaf("a", testpki.Valid(now.Add(time.Hour), now.Add(2*time.Hour)))), access.ExpiredCertificate, access.ExpiredCertificate},
		{"self-signed and expired", chain(testpki.SelfSigned("a", testpki.Expired())), access.ExpiredCertificate, access.ExpiredCertificate},
		{"for servers only", chain(northwind.Leaf("a", serverOnly)), access.WrongUsage, access.WrongUsage},
		{"without usages", chain(northwind.Leaf("a", testpki.Usage())), access.Granted, access.Granted},
		{"for any usage", chain(northwind.Leaf("a", testpki.Usage(x509.ExtKeyUsageAny))), access.Granted, access.Granted},
		{"an authority as client", chain(northwind), access.WrongUsage, access.Granted},
		{"another authority as client", chain(untrusted), access.WrongUsage, access.Granted},
		{"an authority for servers only", chain(testpki.NewCA("a", serverOnly)), access.WrongUsage, access.WrongUsage},
		{"an expired authority", chain(testpki.NewCA("a", testpki.Expired())), access.ExpiredCertificate, access.ExpiredCertificate},
		{"self-signed with the CA bit and no key usage", chain(testpki.SelfSigned("a", caBit, noUsage)), access.WrongUsage, access.Granted},
		{"self-signed with the CA bit, for signing only", chain(testpki.SelfSigned("a", caBit)), access.WrongUsage, access.Granted},
		{"with the CA bit and an unknown critical extension", chain(testpki.SelfSigned("a", caBit, critical)), access.WrongUsage, access.UntrustedCertificate},
		{"self-signed with the CA bit, then the anchor", chain(testpki.SelfSigned("a", caBit), northwind), access.WrongUsage, access.Granted},
		{"an anchor's key and name, with the CA bit", chain(renewed), access.WrongUsage, access.Granted},
		{"an anchor's name, signed by another key", chain(forged), access.WrongUsage, access.WrongUsage},
		{"an intermediate as client", chain(issuing), access.WrongUsage, access.WrongUsage},
		{"under an expired intermediate", chain(dying.Leaf("a")), access.UntrustedCertificate, access.UntrustedCertificate},
		{"outside a name constraint, T-TLS-14", chain(constrained.Leaf("a", testpki.DNS("ledger.other.example"))), access.UntrustedCertificate, access.UntrustedCertificate},
		{"inside a name constraint", chain(constrained.Leaf("a", testpki.DNS("ledger.northwind.example"))), access.Granted, access.Granted},
		{"the first of two names that are permitted, T-TLS-27", chain(postal.Leaf("a", mail("x@a.test"))), access.Granted, access.Granted},
		{"the second", chain(postal.Leaf("a", mail("x@b.test"))), access.Granted, access.Granted},
		{"neither", chain(postal.Leaf("a", mail("x@c.test"))), access.UntrustedCertificate, access.UntrustedCertificate},
		{"signed by a leaf", chain(victim.Leaf("a")), access.UntrustedCertificate, access.Granted},
	}
	anchors := map[config.Name][]*testpki.Pair{"northwind": {northwind}, "borealis": {borealis}}
	strict, open := load(t, false, anchors), load(t, true, anchors)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time from memory
				if _, err := client(strict, tt.chain); reason(err) != tt.want || reason(strict.checkConnection(tt.chain, now)) != tt.want {
					t.Errorf("Client returned %v, want %s", err, tt.want)
				}
				c, err := client(open, tt.chain)
				if reason(err) != tt.selfSigned {
					t.Errorf("with self-signed ones taken: judged %v, want %s", err, tt.selfSigned)
				}
				if err == nil && tt.want != access.Granted && len(c.Anchors) > 0 {
					t.Error("a certificate without a chain has anchors, want none")
				}
			}
		})
	}
}

// issue returns another certificate for the name and key of ca, signed with the key of signer.
func issue(ca, signer *testpki.Pair) *testpki.Pair {
	template := *ca.Cert
	template.SerialNumber = new(big.Int).Add(ca.Cert.SerialNumber, big.NewInt(1))
	parent := template
	parent.PublicKey = nil // the key of signer need not be the key of the issuer
	return &testpki.Pair{Cert: testpki.Certify(&template, &parent, ca.Key.Public(), signer.Key), Key: ca.Key}
}

// If two authorities have one name, an anchor is only the authority whose key signed the certificate.
func TestAnchorsAreComparedByKey(t *testing.T) {
	northwind, borealis := testpki.NewCA("Root"), testpki.NewCA("Root")
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {northwind}, "borealis": {borealis}})
	c, err := client(trust, chain(northwind.Leaf("a")))
	if err != nil {
		t.Fatal(err)
	}
	if !c.ChainsTo(trust.Anchors()["northwind"]) || c.ChainsTo(trust.Anchors()["borealis"]) {
		t.Error("the certificate has the anchor of the wrong partner")
	}
	if c.Thumbprint != access.ThumbprintOf(c.Leaf) {
		t.Error("Thumbprint is not the thumbprint of the leaf")
	}
}

// A verification is cached; the validity period is checked on each request.
func TestExpiryIsJudgedEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, leaf, below := expiring()
		trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
		expectExpiry(t, trust, connected(chain(leaf)), connected(chain(below))) // both connections stay open
	})
}

// expiring returns an authority, a leaf that expires in a minute, and a leaf under an intermediate that
// expires in a minute.
func expiring() (ca, leaf, below *testpki.Pair) {
	long := testpki.Valid(time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	short := testpki.Valid(time.Now().Add(-time.Hour), time.Now().Add(time.Minute))
	ca = testpki.NewCA("Root", long)
	return ca, ca.Leaf("leaf", short), ca.Intermediate("Short", short).Leaf("below", long)
}

// expectExpiry sends the certificates of [expiring] before and after their end. It needs a synctest bubble.
func expectExpiry(t *testing.T, trust *Trust, leaf, below *http.Request) {
	t.Helper()
	expect := func(when string, r *http.Request, want access.Reason) {
		t.Helper()
		if _, err := trust.Client(r); reason(err) != want {
			t.Errorf("%s: Client returned %v, want %s", when, err, want)
		}
	}
	expect("valid leaf", leaf, access.Granted)
	expect("valid intermediate", below, access.Granted)
	time.Sleep(2 * time.Minute)
	expect("expired leaf", leaf, access.ExpiredCertificate)
	expect("expired intermediate", below, access.UntrustedCertificate)
}

func TestLoadTrustRefuses(t *testing.T) {
	ca, leaf := testpki.NewCA("Root"), testpki.SelfSigned("leaf")
	whole := string(ca.CertPEM())
	tests := []struct{ name, content, want string }{
		{"empty", "", "no certificate"},
		{"text", "not a certificate\n", "no certificate"},
		{"a key", string(ca.KeyPEM()), `"PRIVATE KEY"`},
		{"a certificate and its key", whole + string(ca.KeyPEM()), `"PRIVATE KEY"`},
		{"cut short", whole[:len(whole)-40], ":1: the PEM block is cut short"},
		{"a good one, then half of one", whole + whole[:len(whole)/2], "the PEM block is cut short"},
		{"garbled", strings.Replace(whole, "MII", "AAA", 1), ":1: parsing the certificate"},
		{"a leaf, T-TLS-12", string(leaf.CertPEM()), "register it by its thumbprint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "anchors.pem")
			if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := &config.Config{}
			cfg.Listener.ClientCertificates.Trust = []config.Path{config.Path(file)}
			_, err := LoadTrust(cfg, Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("LoadTrust returned %v, want %q and the file's name", err, tt.want)
			}
		})
	}
	t.Run("missing, T-TLS-24", func(t *testing.T) {
		cfg := &config.Config{}
		cfg.Listener.ClientCertificates.Trust = []config.Path{"/nowhere/anchors.pem"}
		if _, err := LoadTrust(cfg, Options{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("LoadTrust returned %v", err)
		}
	})
}

// The entry of a connection is deleted with the connection.
func TestConnectionsAreForgotten(t *testing.T) {
	ca := testpki.NewCA("Root")
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	presented := chain(ca.Leaf("a"))
	for range 100 {
		if _, err := client(trust, presented); err != nil {
			t.Fatal(err)
		}
	}
	gatetest.EventuallyEqual(t, "entries of closed connections", 0, func() (left int) {
		runtime.GC()
		trust.connections.Range(func(any, any) bool { left++; return true })
		return left
	})
}

// A second request on a connection computes no hash and does not allocate.
func TestConnectionIsJudgedOnce(t *testing.T) {
	ca := testpki.NewCA("Root")
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	r := connected(chain(ca.Leaf("a")))
	if n := testing.AllocsPerRun(100, func() { _, _ = trust.Client(r) }); n > 0 {
		t.Errorf("Client made %v allocations on a known connection, want 0", n)
	}
}

// Untrusted chains of any size leave nothing in memory, and little in the log.
func TestUntrustedChainsAreNotCached(t *testing.T) {
	long := strings.Repeat("\x01", 60_000)
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {testpki.NewCA("Root")}})
	for range 3 {
		untrusted := testpki.NewCA(long)
		_, err := client(trust, append(chain(testpki.NewCA(long).Leaf("a")), untrusted.Cert))
		if reason(err) != access.UntrustedCertificate || len(err.Error()) > 200 {
			t.Fatalf("judged %.300v", err)
		}
	}
	if n := trust.verifications.Len(); n != 0 {
		t.Errorf("%d untrusted chains are cached, want 0", n)
	}
	serverOnly := testpki.SelfSigned("a", testpki.Usage(x509.ExtKeyUsageServerAuth))
	if _, err := client(load(t, true, nil), chain(serverOnly)); reason(err) != access.WrongUsage {
		t.Errorf("a self-signed certificate for servers is judged %v", err)
	}
}
