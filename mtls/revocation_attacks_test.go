package mtls

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// pemOf is a PEM file with lists.
func pemOf(lists ...[]byte) (text []byte) {
	for _, l := range lists {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l})...)
	}
	return text
}

// place is an IssuingDistributionPoint that names one place of several.
func place(uri string) testpki.ListOption {
	var b cryptobyte.Builder
	context := func(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific() }
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(context(0).Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(context(0).Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(context(6), func(b *cryptobyte.Builder) { b.AddBytes([]byte(uri)) })
			})
		})
	})
	return extension(true, b.BytesOrPanic(), 2, 5, 29, 28)
}

// Whoever answers for http://north/a.crl and has no key answers with the list of another
// authority of the configuration, which anybody can download. Nothing is known of north's
// certificates then.
func TestListOfAnotherAuthorityAtAURL(t *testing.T) {
	north, south := testpki.NewCA("North"), testpki.NewCA("South")
	gone := north.Leaf("gone")
	p := newPublisher(t)
	p.publish(0, south.RevocationList()) // in the place of north's
	l := newListed(t, north, south)
	l.at(p.URL + "/north.crl")
	trust := l.load(nil)
	if err := trust.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	judged(t, trust, chain(gone), access.RevocationUnknown)
	// And when the right one comes, it counts.
	p.publish(0, north.RevocationList(testpki.Revoking(gone)))
	if err := trust.revocation.fetch(t.Context(), trust.revocation.sources[0]); err != nil {
		t.Fatal(err)
	}
	judged(t, trust, chain(gone), access.RevokedCertificate)
}

// A list of one place says nothing of the certificates of another place of the same
// authority: while that is unread, their status is unknown.
func TestShardThatIsUnread(t *testing.T) {
	north := testpki.NewCA("North")
	inA := north.Leaf("a", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://north/a.crl"} })
	p := newPublisher(t)
	p.publish(0, north.RevocationList(place("http://north/b.crl")))
	l := newListed(t, north)
	l.at("http://127.0.0.1:1/a.crl") // kept from us; inA is on it
	l.at(p.URL + "/b.crl")
	trust := l.load(nil)
	_ = trust.Read(t.Context())
	judged(t, trust, chain(inA), access.RevocationUnknown)
	judged(t, trust, chain(north.Leaf("b", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://north/b.crl"} })), access.Granted)
}

// Whoever answers for a.crl answers with b.crl, of the same authority, and so takes
// revocations back on a gate that runs and has read a.crl.
func TestShardInAnothersPlace(t *testing.T) {
	north := testpki.NewCA("North")
	gone := north.Leaf("gone", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://north/a.crl"} })
	p := newPublisher(t)
	p.publish(0, north.RevocationList(place("http://north/a.crl"), testpki.Revoking(gone)))
	l := newListed(t, north)
	l.at(p.URL + "/a.crl")
	trust := l.load(nil)
	if err := trust.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	judged(t, trust, chain(gone), access.RevokedCertificate)
	p.publish(0, north.RevocationList(place("http://north/b.crl"), testpki.Revoking(north.Leaf("other"), north.Leaf("more"))))
	if err := trust.revocation.fetch(t.Context(), trust.revocation.sources[0]); err != nil {
		t.Fatal(err)
	}
	judged(t, trust, chain(gone), access.RevocationUnknown)
}

// The same with both in one file, where the second is dropped, or put back to last week's.
func TestShardDroppedFromAFile(t *testing.T) {
	north := testpki.NewCA("North")
	gone := north.Leaf("gone", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://north/b.crl"} })
	a := north.RevocationList(place("http://north/a.crl"), testpki.Numbered(9))
	b := north.RevocationList(place("http://north/b.crl"), testpki.Numbered(9), testpki.Revoking(gone))
	old := north.RevocationList(place("http://north/b.crl"), testpki.Numbered(3), testpki.Updated(time.Now().Add(-50*time.Hour), time.Now().Add(time.Hour)))
	for name, c := range map[string]struct {
		next []byte
		want access.Reason
	}{"dropped": {pemOf(a), access.RevocationUnknown}, "an older one": {pemOf(a, old), access.RevokedCertificate}} {
		p := newPublisher(t)
		p.publish(0, pemOf(a, b))
		l := newListed(t, north)
		l.at(p.URL + "/all.pem")
		trust := l.load(nil)
		if err := trust.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		judged(t, trust, chain(gone), access.RevokedCertificate)
		p.publish(0, c.next)
		if err := trust.revocation.fetch(t.Context(), trust.revocation.sources[0]); (err == nil) != (name == "dropped") {
			t.Errorf("%s: %v", name, err)
		}
		judged(t, trust, chain(gone), c.want)
	}
}

// A certificate that was revoked, shown without the authorities above it, chains to nothing.
// Where self-signed ones are taken it must not pass for one.
func TestRevokedWithoutIntermediates(t *testing.T) {
	root := testpki.NewCA("Root")
	issuing := root.Intermediate("Issuing")
	gone := issuing.Leaf("gone")
	l := newListed(t, root)
	issuing.Write(l.dir, "issuing")
	l.revocation().Authorities = []config.Path{l.path("issuing.pem")}
	root.WriteRevocationList(l.dir, "root.crl")
	issuing.WriteRevocationList(l.dir, "issuing.crl", testpki.Revoking(gone))
	l.file("root.crl")
	l.file("issuing.crl")
	l.Listener.ClientCertificates.SelfSigned = true
	trust := l.load(nil)
	judged(t, trust, chain(gone), access.RevokedCertificate)
	bare := []*x509.Certificate{gone.Cert}
	judged(t, trust, bare, access.RevokedCertificate)
	// Of whom nobody here knows who signed him, nobody knows whether he was revoked.
	judged(t, trust, chain(testpki.NewCA("Stranger").Leaf("a"))[:1], access.RevocationUnknown)
	judged(t, trust, chain(testpki.SelfSigned("a")), access.Granted)
}

// A bundle of a root and its issuing authority is common. The root's list counts for the
// issuing authority there too.
func TestRevokedIntermediateInTheBundle(t *testing.T) {
	root := testpki.NewCA("Root")
	issuing := root.Intermediate("Issuing")
	leaf := issuing.Leaf("a")
	l := newListed(t, root)
	bundle := append(root.CertPEM(), issuing.CertPEM()...)
	if err := os.WriteFile(string(l.path("partner0.pem")), bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	root.WriteRevocationList(l.dir, "root.crl", testpki.Revoking(issuing))
	l.file("root.crl")
	trust := l.load(nil)
	judged(t, trust, chain(leaf), access.RevokedCertificate)
	judged(t, trust, []*x509.Certificate{leaf.Cert}, access.RevokedCertificate)
}

// A list that is signed with SHA-1 is refused, as a certificate is (T-TLS-19).
func TestListSignedWithSHA1(t *testing.T) {
	ca := testpki.NewCA("Root")
	der := ca.RevocationList(func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.ECDSAWithSHA1 })
	if l, err := parseList(der, []*x509.Certificate{ca.Cert}, maxEntries); err == nil {
		t.Errorf("taken: %v", l.issuer)
	}
}

// A PEM file whose middle block is garbled has lost a list.
func TestGarbledBlockInTheMiddle(t *testing.T) {
	a, b, c := testpki.NewCA("A"), testpki.NewCA("B"), testpki.NewCA("C")
	gone := b.Leaf("gone")
	text := pemOf(a.RevocationList(), b.RevocationList(testpki.Revoking(gone)), c.RevocationList())
	parts := bytes.SplitAfter(text, []byte("-----BEGIN X509 CRL-----\n"))
	parts[2][0] = '!' // the first character of the second list
	text = bytes.Join(parts, nil)
	l := newListed(t, a, b, c)
	if err := os.WriteFile(string(l.path("all.pem")), text, 0o600); err != nil {
		t.Fatal(err)
	}
	l.file("all.pem")
	trust, err := LoadTrust(l.Config, Options{})
	if err == nil {
		t.Error("taken")
		judged(t, trust, chain(gone), access.RevokedCertificate)
	}
}

// A serial number that no list can hold cannot be told from a revoked one.
func TestSerialThatNoListCanHold(t *testing.T) {
	ca := testpki.NewCA("Root")
	long := new(big.Int).Lsh(big.NewInt(1), 170)
	leaf := ca.Leaf("long", func(c *x509.Certificate) { c.SerialNumber = long })
	l := newListed(t, ca)
	ca.WriteRevocationList(l.dir, "a.crl")
	l.file("a.crl")
	trust := l.load(nil)
	judged(t, trust, chain(leaf), access.RevocationUnknown)
	// The list that revokes it is refused as a whole, so the one before goes on.
	ca.WriteRevocationList(l.dir, "a.crl", testpki.Numbered(2), testpki.Revoking(leaf))
	_, err := LoadTrust(l.Config, Options{Previous: trust})
	t.Logf("the list that revokes it: %v", err)
}

// grown returns the most memory that f had at a time, more or less.
func grown(f func()) (bytes uint64) {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&now)
	return now.TotalAlloc - before.TotalAlloc
}

// unsigned makes a list in the name of p that nobody has signed, with more after the time
// of the next update.
func unsigned(p *testpki.Pair, more func(*cryptobyte.Builder)) []byte {
	algorithm := []byte{0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}
	b := cryptobyte.NewBuilder(make([]byte, 0, 40<<20))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddBytes(algorithm)
			b.AddBytes(p.Cert.RawSubject)
			b.AddASN1UTCTime(time.Now().Add(-time.Hour))
			b.AddASN1UTCTime(time.Now().Add(time.Hour))
			more(b)
		})
		b.AddBytes(algorithm)
		b.AddASN1BitString([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	})
	return b.BytesOrPanic()
}

// Before the signature is verified, a list costs no more than a few times its size, however
// it is made: whoever can answer for a URL can make it.
func TestUnsignedListTakesMemory(t *testing.T) {
	ca := testpki.NewCA("Root")
	const size = 16 << 20
	entry := append([]byte{0x30, 18, 2, 1, 1, 0x17, 13}, "260101000000Z"...)
	entries := bytes.Repeat(entry, size/len(entry))
	extra := []byte{0x30, 5, 6, 1, 0x2a, 4, 0}
	extensions := bytes.Repeat(extra, size/len(extra))
	for name, der := range map[string][]byte{
		"a second row of entries": unsigned(ca, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(entry) })
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(entries) })
		}),
		"extensions": unsigned(ca, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
			})
		}),
	} {
		var err error
		start := time.Now()
		n := grown(func() { _, err = parseList(der, []*x509.Certificate{ca.Cert}, maxEntries) })
		t.Logf("%s: %d MiB of list, %d MiB allocated, %s, %v", name, len(der)>>20, n>>20, time.Since(start), err)
		if n > 4*uint64(len(der)) {
			t.Errorf("%s: %d times the size of the list", name, n/uint64(len(der)))
		}
	}
}

// A list that anybody can download, sent back very often in one PEM file, must not cost
// every request as often.
func TestListRepeated(t *testing.T) {
	ca := testpki.NewCA("Root")
	leaf := ca.Leaf("a")
	const times = 20_000 // 8 MiB; 48 MiB hold 120,000
	text := bytes.Repeat(pemOf(ca.RevocationList()), times)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }))
	t.Cleanup(s.Close)
	l := newListed(t, ca)
	l.at(s.URL + "/a.crl")
	trust := l.load(nil)
	start := time.Now()
	err := trust.Read(t.Context())
	t.Logf("read %d MiB in %s: %v", len(text)>>20, time.Since(start), err)
	if err != nil {
		return // refused, which is good
	}
	r := connected(chain(leaf))
	_, _ = trust.Client(r)
	start = time.Now()
	for range 10 {
		_, _ = trust.Client(r)
	}
	if each := time.Since(start) / 10; each > 100*time.Microsecond {
		t.Errorf("a request takes %s", each)
	}
}

// The name of whoever is said to have signed a list is a stranger's text, of any length.
func TestNameOfASigner(t *testing.T) {
	ca := testpki.NewCA("Root")
	stranger := testpki.NewCA("x\nconfiguration reloaded\x1b[2J" + strings.Repeat("y", 1<<20))
	_, err := parseList(unsigned(stranger, func(*cryptobyte.Builder) {}), []*x509.Certificate{ca.Cert}, maxEntries)
	if err == nil || len(err.Error()) > 4<<10 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("the error has %d bytes: %.60q", len(err.Error()), err.Error())
	}
}

// What keeps one partner's list from being read must not keep another's from counting.
func TestListKeepsOthersFromBeingRead(t *testing.T) {
	north, evil := testpki.NewCA("North"), testpki.NewCA("Evil")
	gone := north.Leaf("gone")
	l := newListed(t, north, evil)
	north.WriteRevocationList(l.dir, "north.crl")
	evil.WriteRevocationList(l.dir, "evil.crl")
	l.file("north.crl")
	l.file("evil.crl")
	trust := l.load(nil)
	evil.WriteRevocationList(l.dir, "evil.crl", testpki.Numbered(2), extension(true, []byte{5, 0}, 1, 2, 3))
	north.WriteRevocationList(l.dir, "north.crl", testpki.Numbered(2), testpki.Revoking(gone))
	next := l.load(trust)
	judged(t, next, chain(gone), access.RevokedCertificate)
	judged(t, next, chain(evil.Leaf("a")), access.Granted) // by the list of before
	if n := testutil.ToFloat64(next.metrics.fetches.WithLabelValues(string(l.path("evil.crl")), "failed")); n != 1 {
		t.Errorf("%v failures are counted", n)
	}
}

// Of places that differ in the query, as EJBCA's do, metrics show the one that is due first,
// or not read at all.
func TestMetricsOfPlacesWithAQuery(t *testing.T) {
	north, south := testpki.NewCA("North"), testpki.NewCA("South")
	p := newPublisher(t)
	p.publish(0, south.RevocationList())
	l := newListed(t, north, south)
	l.at("http://127.0.0.1:1/certdist?issuer=north") // never read
	l.at(p.URL + "/certdist?issuer=south")
	l.revocation().Lists[0].URL.Host = l.revocation().Lists[1].URL.Host
	trust := l.load(nil)
	if err := trust.revocation.fetch(t.Context(), trust.revocation.sources[1]); err != nil {
		t.Fatal(err)
	}
	trust.metrics.show(trust.revocation)
	if a, b := trust.revocation.sources[0].String(), trust.revocation.sources[1].String(); a == b {
		t.Errorf("two lists, one of them unread, share the label %q", a)
	}
}

// What is remembered of a chain is small whatever a partner's authority builds, for 16,384
// are remembered and anybody's junk in a chain makes another one.
func TestChainWithManyWays(t *testing.T) {
	root := testpki.NewCA("Root")
	const deep, wide = 45, 25
	last := root.Intermediate("Last")
	shown := []*x509.Certificate{last.Cert}
	for range wide - 1 {
		shown = append(shown, cross(t, last, root))
	}
	for i, c := range shown[1:] { // as many certificates of one authority
		der, err := x509.CreateCertificate(nil, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: last.Cert.KeyUsage,
		}, root.Cert, last.Key.Public(), root.Key)
		if err != nil {
			t.Fatal(err)
		}
		if shown[i+1], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
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
	search := time.Since(start)
	start = time.Now()
	for range 100 {
		_, _ = trust.Client(r)
	}
	t.Logf("search %s, then %s a request", search, time.Since(start)/100)
	if n := trust.paths.Len(); n != 0 {
		t.Errorf("%d chains with many ways are remembered, want none", n)
	}
}

// One partner's list that cannot be read is that partner's trouble: a gate that starts again
// serves the others, whose lists it has, and so is ready.
func TestListServerThatIsDown(t *testing.T) {
	north, evil := testpki.NewCA("North"), testpki.NewCA("Evil")
	l := newListed(t, north, evil)
	north.WriteRevocationList(l.dir, "north.crl")
	l.file("north.crl")
	l.at("http://127.0.0.1:1/evil.crl")
	trust := l.load(nil)
	judged(t, trust, chain(north.Leaf("a")), access.Granted)
	judged(t, trust, chain(evil.Leaf("a")), access.RevocationUnknown)
	if err := trust.Ready(); err == nil {
		t.Error("ready before it has tried")
	}
	_ = trust.Read(t.Context())
	if err := trust.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

// What a client shows beside its certificate only helps to find a path. A stranger's
// certificate for the key of an authority must not turn "its authority has expired" into
// "it chains to nothing", which counts where self-signed certificates are taken.
func TestStrangersCertificateForAnAuthority(t *testing.T) {
	root, stranger := testpki.NewCA("Root", testpki.Expired()), testpki.NewCA("Stranger")
	leaf := root.Leaf("a")
	der, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: root.Cert.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: root.Cert.KeyUsage,
	}, stranger.Cert, root.Key.Public(), stranger.Key) // needs the root's public key only
	if err != nil {
		t.Fatal(err)
	}
	crossed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l := newListed(t, root)
	l.Listener.ClientCertificates.SelfSigned = true
	trust := l.load(nil)
	judged(t, trust, []*x509.Certificate{leaf.Cert}, access.UntrustedCertificate)
	judged(t, trust, []*x509.Certificate{leaf.Cert, crossed}, access.UntrustedCertificate)
}
