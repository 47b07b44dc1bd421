package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/revocation"
)

// listed is a configuration with revocation lists and anchors, each anchor of its own partner.
type listed struct {
	*config.Config
	t   *testing.T
	dir string
}

func newListed(t *testing.T, anchors ...*testpki.Pair) *listed {
	t.Helper()
	l := &listed{&config.Config{}, t, t.TempDir()}
	l.revocation().Refresh, l.revocation().WhenStale = time.Hour, config.RefuseStale
	for i, ca := range anchors {
		name := "partner" + strconv.Itoa(i)
		file, _ := ca.Write(l.dir, name)
		l.Partners.List = append(l.Partners.List, config.Partner{Name: config.Name(name), Trust: []config.Path{config.Path(file)}})
	}
	return l
}

func (l *listed) revocation() *config.Revocation {
	return &l.Listener.ClientCertificates.Revocation
}

// file adds a list in a file.
func (l *listed) file(name string) {
	l.revocation().Lists = append(l.revocation().Lists, config.RevocationList{File: l.verification(name)})
}

func (l *listed) verification(name string) config.Path {
	return config.Path(filepath.Join(l.dir, name))
}

func (l *listed) load(previous *Trust) *Trust {
	l.t.Helper()
	trust, err := LoadTrust(l.Config, Options{Previous: previous})
	if err != nil {
		l.t.Fatal(err)
	}
	return trust
}

// judged checks the reason for chain, on a request and in a handshake.
func judged(t *testing.T, trust *Trust, chain []*x509.Certificate, want access.Reason) {
	t.Helper()
	_, err := trust.Client(connected(chain))
	settings := ServerConfig(func() *Trust { return trust }, testpki.SelfSigned("gate").TLS(), config.TLS12, config.Handshake, NewHandshakes(prometheus.NewRegistry()))
	handshake := settings.VerifyConnection(tls.ConnectionState{PeerCertificates: chain})
	if reason(err) != want || reason(handshake) != want {
		t.Errorf("judged %s, in the handshake %s, want %s: %v", reason(err), reason(handshake), want, err)
	}
}

// A revocation takes effect with the next request on an open connection, despite all caches.
func TestRevokedOnAnOpenConnection(t *testing.T) {
	root, other := testpki.NewCA("Root"), testpki.NewCA("Other")
	leaf := root.Leaf("a")
	l := newListed(t, root, other)
	root.WriteRevocationList(l.dir, "root.crl")
	l.file("root.crl")
	first := l.load(nil)
	r := connected(chain(leaf))
	for range 2 {
		if _, err := first.Client(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = first.Client(r) }); n > 0 {
		t.Errorf("Client made %v allocations on a known connection, want 0", n)
	}
	if l.load(first) != first {
		t.Error("LoadTrust without a change returned a new Trust, want the previous Trust")
	}
	root.WriteRevocationList(l.dir, "root.crl", testpki.Numbered(7), testpki.Revoking(leaf))
	second := l.load(first)
	for name, list := range map[string][]byte{
		"a list of before": root.RevocationList(testpki.Numbered(6)),
		"another's list":   other.RevocationList(testpki.Numbered(8)),
	} {
		if err := os.WriteFile(string(l.verification("root.crl")), list, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.load(second).Client(r); reason(err) == access.Granted {
			t.Errorf("Client accepted a revoked certificate after %s, want RevokedCertificate", name)
		}
	}
	if _, err := second.Client(r); reason(err) != access.RevokedCertificate {
		t.Errorf("judged %v", err)
	}
}

// T-TLS-13: a chain with a revoked authority is refused with its anchor; another chain of the certificate
// is accepted.
func TestRevokedAuthorityOnOneChain(t *testing.T) {
	one, two := testpki.NewCA("One"), testpki.NewCA("Two")
	issuing := one.Intermediate("Issuing")
	crossed := cross(issuing, two)
	leaf := issuing.Leaf("a")
	shown := append(chain(leaf), crossed)
	l := newListed(t, one, two)
	one.WriteRevocationList(l.dir, "one.crl", testpki.Revoking(issuing))
	issuing.WriteRevocationList(l.dir, "issuing.crl")
	two.WriteRevocationList(l.dir, "two.crl")
	issuing.Write(l.dir, "issuing")
	l.revocation().Authorities = []config.Path{l.verification("issuing.pem")}
	l.file("one.crl")
	l.file("two.crl")
	l.file("issuing.crl")
	trust := l.load(nil)
	c, err := trust.Client(connected(shown))
	if err != nil || len(c.Anchors) != 1 || !c.ChainsTo(trust.Anchors()["partner1"]) || c.ChainsTo(trust.Anchors()["partner0"]) {
		t.Fatalf("Client returned %+v, %v, want the anchor of partner1 alone", c, err)
	}
	two.WriteRevocationList(l.dir, "two.crl", testpki.Numbered(2), testpki.Revoking(&testpki.Pair{Cert: crossed}))
	judged(t, l.load(trust), shown, access.RevokedCertificate)
}

// cross returns a certificate for the authority subject that issuer has signed.
func cross(subject, issuer *testpki.Pair) *x509.Certificate {
	return testpki.Certify(&x509.Certificate{
		SerialNumber: subject.Cert.SerialNumber, Subject: subject.Cert.Subject, NotBefore: subject.Cert.NotBefore, NotAfter: subject.Cert.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: subject.Cert.KeyUsage,
	}, issuer.Cert, subject.Key.Public(), issuer.Key)
}

// A revoked certificate that is presented without its intermediates has no chain. It must not be accepted
// as self-signed.
func TestRevokedWithoutIntermediates(t *testing.T) {
	root := testpki.NewCA("Root")
	issuing := root.Intermediate("Issuing")
	gone := issuing.Leaf("gone")
	l := newListed(t, root)
	issuing.Write(l.dir, "issuing")
	l.revocation().Authorities = []config.Path{l.verification("issuing.pem")}
	root.WriteRevocationList(l.dir, "root.crl")
	issuing.WriteRevocationList(l.dir, "issuing.crl", testpki.Revoking(gone))
	l.file("root.crl")
	l.file("issuing.crl")
	l.Listener.ClientCertificates.SelfSigned = true
	trust := l.load(nil)
	judged(t, trust, chain(gone), access.RevokedCertificate)
	bare := []*x509.Certificate{gone.Cert}
	judged(t, trust, bare, access.RevokedCertificate)
	// The status of a certificate by an unknown issuer is unknown.
	judged(t, trust, chain(testpki.NewCA("Stranger").Leaf("a"))[:1], access.RevocationUnknown)
	judged(t, trust, chain(testpki.SelfSigned("a")), access.Granted)
}

// A bundle often has a root and its issuing authority as anchors. The root's list applies to the issuing
// authority there too.
func TestRevokedIntermediateInTheBundle(t *testing.T) {
	root := testpki.NewCA("Root")
	issuing := root.Intermediate("Issuing")
	leaf := issuing.Leaf("a")
	l := newListed(t, root)
	bundle := append(root.CertPEM(), issuing.CertPEM()...)
	if err := os.WriteFile(string(l.verification("partner0.pem")), bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	root.WriteRevocationList(l.dir, "root.crl", testpki.Revoking(issuing))
	l.file("root.crl")
	trust := l.load(nil)
	judged(t, trust, chain(leaf), access.RevokedCertificate)
	judged(t, trust, []*x509.Certificate{leaf.Cert}, access.RevokedCertificate)
}

// Large verifications are not cached: the cache has room for 16,384 small ones, and any extra certificate in
// a chain makes another entry.
func TestManyChains(t *testing.T) {
	root := testpki.NewCA("Root")
	const deep, wide = 45, 25
	last := root.Intermediate("Last")
	shown := []*x509.Certificate{last.Cert}
	for range wide - 1 {
		shown = append(shown, cross(last, root))
	}
	for i, c := range shown[1:] { // as many certificates of one authority
		shown[i+1] = testpki.Certify(&x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: last.Cert.KeyUsage,
		}, root.Cert, last.Key.Public(), root.Key)
	}
	at := last
	for i := range deep {
		at = at.Intermediate("Between " + strconv.Itoa(i))
		shown = append(shown, at.Cert)
	}
	leaf := at.Leaf("a")
	shown = append([]*x509.Certificate{leaf.Cert}, shown...)
	l := newListed(t, root)
	root.WriteRevocationList(l.dir, "root.crl")
	l.file("root.crl")
	l.revocation().WhenStale = config.AcceptStale
	trust := l.load(nil)
	r := connected(shown)
	start := time.Now()
	if _, err := trust.Client(r); err != nil {
		t.Fatal(err)
	}
	verifyChains := time.Since(start)
	start = time.Now()
	for range 100 {
		_, _ = trust.Client(r)
	}
	t.Logf("search %s, then %s a request", verifyChains, time.Since(start)/100)
	if n := trust.verifications.Len(); n != 0 {
		t.Errorf("%d chains with many ways are remembered, want none", n)
	}
}

// Extra certificates only help to find a chain. An untrusted certificate for the key of an authority must not
// turn an expired authority into "chains to no anchor", which is accepted where self-signed certificates are.
func TestUntrustedCrossCertificate(t *testing.T) {
	root, untrusted := testpki.NewCA("Root", testpki.Expired()), testpki.NewCA("Stranger")
	leaf := root.Leaf("a")
	crossed := testpki.Certify(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: root.Cert.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: root.Cert.KeyUsage,
	}, untrusted.Cert, root.Key.Public(), untrusted.Key) // needs the root's public key only
	l := newListed(t, root)
	l.Listener.ClientCertificates.SelfSigned = true
	trust := l.load(nil)
	judged(t, trust, []*x509.Certificate{leaf.Cert}, access.UntrustedCertificate)
	judged(t, trust, []*x509.Certificate{leaf.Cert, crossed}, access.UntrustedCertificate)
}

// revoke adds the thumbprint of p to set.
func revoke(t *testing.T, set *revocation.Set, p *testpki.Pair) {
	t.Helper()
	if err := set.Add(revocation.Entry{Kind: revocation.Certificate, Subject: p.Thumbprint()}); err != nil {
		t.Fatal(err)
	}
}

// A certificate that an issuer revokes is refused with the next request and handshake, whatever it chains to.
func TestRevokedThumbprint(t *testing.T) {
	root := testpki.NewCA("Root")
	gone, stays := root.Leaf("gone"), root.Leaf("stays")
	self := testpki.SelfSigned("self")
	l := newListed(t, root)
	l.Listener.ClientCertificates.SelfSigned = true
	set := revocation.NewSet()
	options := Options{Revocations: set}
	trust, err := LoadTrust(l.Config, options)
	if err != nil {
		t.Fatal(err)
	}
	open := connected(chain(gone))
	for range 2 {
		if _, err := trust.Client(open); err != nil {
			t.Fatal(err)
		}
	}
	judged(t, trust, chain(self), access.Granted)
	revoke(t, set, gone)
	revoke(t, set, self)
	if _, err := trust.Client(open); reason(err) != access.RevokedCertificate || !errors.Is(err, ErrRevokedThumbprint) {
		t.Errorf("Client on an open connection: %v, want revoked_certificate by its thumbprint", err)
	}
	judged(t, trust, chain(gone), access.RevokedCertificate)
	judged(t, trust, chain(self), access.RevokedCertificate)
	judged(t, trust, chain(stays), access.Granted)
	judged(t, trust, chain(testpki.NewCA("Elsewhere").Leaf("gone")), access.Granted) // accepted like every self-signed certificate

	if shown := trust.Presented(open); shown == nil || len(shown.Anchors) != 1 {
		t.Errorf("Presented = %v, want the certificate with its anchor, for the labels", shown)
	}
	healthy := connected(chain(stays))
	_, _ = trust.Client(healthy)
	if n := testing.AllocsPerRun(100, func() { _, _ = trust.Client(healthy) }); n > 0 {
		t.Errorf("Client made %v allocations on a known connection, want 0", n)
	}
}

// A reload keeps the Trust only while the revocations are the same.
func TestReloadOfRevocations(t *testing.T) {
	root := testpki.NewCA("Root")
	gone := root.Leaf("gone")
	l, set := newListed(t, root), revocation.NewSet()
	revoke(t, set, gone)
	load := func(previous *Trust, revocations Revocations) *Trust {
		trust, err := LoadTrust(l.Config, Options{Previous: previous, Revocations: revocations})
		if err != nil {
			t.Fatal(err)
		}
		return trust
	}
	without := load(nil, nil)
	judged(t, without, chain(gone), access.Granted)
	with := load(without, set)
	judged(t, with, chain(gone), access.RevokedCertificate)
	if load(with, set) != with {
		t.Error("LoadTrust with the same revocations returned another Trust, want the previous one")
	}
	judged(t, load(with, nil), chain(gone), access.Granted)
	judged(t, load(with, revocation.NewSet()), chain(gone), access.Granted)
}

// Behind a front proxy, a request is refused if the certificate in the header or the certificate of the proxy is
// revoked.
func TestRevokedThumbprintBehindFrontProxy(t *testing.T) {
	northwind, operator := testpki.NewCA("Northwind Root"), testpki.NewCA("Operator Root")
	p, q, lb := northwind.Leaf("p"), northwind.Leaf("q"), operator.Leaf("lb", testpki.DNS("lb.internal"))
	l := newListed(t, northwind)
	operatorFile, _ := operator.Write(l.dir, "operator")
	settings := fronting(config.FormatRFC9440)
	settings.TrustedProxies = proxies(nil, operatorFile, "lb.internal")
	l.Listener.ClientCertificates.From, l.Listener.ClientCertificates.Header = config.FromHeader, settings
	set := revocation.NewSet()
	trust, err := LoadTrust(l.Config, Options{Revocations: set})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(of *testpki.Pair, want access.Reason) {
		t.Helper()
		for range 2 { // the second time from the cache
			if _, err := trust.Client(sent("10.1.2.3", chain(lb), "Client-Cert: "+rfc9440(of.Cert))); reason(err) != want {
				t.Errorf("Client returned %v, want %s", err, want)
			}
		}
	}
	expect(p, access.Granted)
	expect(q, access.Granted)
	revoke(t, set, p)
	expect(p, access.RevokedCertificate)
	expect(q, access.Granted)
	judged(t, trust.PeerTrust(), chain(lb), access.Granted)
	revoke(t, set, lb)
	expect(q, access.NoCertificate)
	judged(t, trust.PeerTrust(), chain(lb), access.RevokedCertificate)
}
