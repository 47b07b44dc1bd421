package crl

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/testpki"
)

// pemOf returns a PEM text with lists.
func pemOf(lists ...[]byte) (text []byte) {
	for _, list := range lists {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})...)
	}
	return text
}

// place returns an IssuingDistributionPoint with a URI.
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

// An attacker who answers for http://north/a.crl without a key can send the published list of another
// authority of the configuration. The status of north's certificates is unknown then.
func TestListOfAnotherAuthorityAtAURL(t *testing.T) {
	north, south := testpki.NewCA("North"), testpki.NewCA("South")
	gone := north.Leaf("gone")
	p := newPublisher(t)
	p.publish(0, south.RevocationList()) // South's list at the URL of North's list
	h := newHarness(t, north, south)
	h.at(p.URL + "/north.crl")
	checker := h.load(nil)
	if err := checker.FetchAdded(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.expect(checker, chain(gone), access.RevocationUnknown)
	// The authority's own list takes effect when it is fetched.
	p.publish(0, north.RevocationList(testpki.Revoking(gone)))
	if err := checker.fetch(t.Context(), checker.sources[0]); err != nil {
		t.Fatal(err)
	}
	h.expect(checker, chain(gone), access.RevokedCertificate)
}

// A list for one distribution point does not cover certificates of another distribution point. Until their
// list is fetched, their status is unknown.
func TestShardThatIsUnread(t *testing.T) {
	north := testpki.NewCA("North")
	inA := north.Leaf("a", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://north/a.crl"} })
	p := newPublisher(t)
	p.publish(0, north.RevocationList(place("http://north/b.crl")))
	h := newHarness(t, north)
	h.at("http://127.0.0.1:1/a.crl") // kept from us; inA is on it
	h.at(p.URL + "/b.crl")
	checker := h.load(nil)
	_ = checker.FetchAdded(t.Context())
	h.expect(checker, chain(inA), access.RevocationUnknown)
	h.expect(checker, chain(north.Leaf("b", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://north/b.crl"} })), access.Granted)
}

// An attacker who answers for a.crl sends b.crl of the same authority to a gate that has fetched a.crl. No
// revocation is undone.
func TestShardInAnothersPlace(t *testing.T) {
	north := testpki.NewCA("North")
	gone := north.Leaf("gone", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://north/a.crl"} })
	p := newPublisher(t)
	p.publish(0, north.RevocationList(place("http://north/a.crl"), testpki.Revoking(gone)))
	h := newHarness(t, north)
	h.at(p.URL + "/a.crl")
	checker := h.load(nil)
	if err := checker.FetchAdded(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.expect(checker, chain(gone), access.RevokedCertificate)
	p.publish(0, north.RevocationList(place("http://north/b.crl"), testpki.Revoking(north.Leaf("other"), north.Leaf("more"))))
	if err := checker.fetch(t.Context(), checker.sources[0]); err != nil {
		t.Fatal(err)
	}
	h.expect(checker, chain(gone), access.RevocationUnknown)
}

// The same with both lists in one file, from which the second is removed, or replaced by an older list.
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
		h := newHarness(t, north)
		h.at(p.URL + "/all.pem")
		checker := h.load(nil)
		if err := checker.FetchAdded(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.expect(checker, chain(gone), access.RevokedCertificate)
		p.publish(0, c.next)
		if err := checker.fetch(t.Context(), checker.sources[0]); (err == nil) != (name == "dropped") {
			t.Errorf("%s: %v", name, err)
		}
		h.expect(checker, chain(gone), c.want)
	}
}

// A list that is signed with SHA-1 is refused, as a certificate is (T-TLS-19).
func TestListSignedWithSHA1(t *testing.T) {
	ca := testpki.NewCA("Root")
	der := ca.RevocationList(func(h *x509.RevocationList) { h.SignatureAlgorithm = x509.ECDSAWithSHA1 })
	if h, err := parseList(der, []*x509.Certificate{ca.Cert}, maxEntries); err == nil {
		t.Errorf("accepted, want an error: %v", h.issuer)
	}
}

// A PEM file with a malformed block in the middle is refused: a list would be missing.
func TestGarbledBlockInTheMiddle(t *testing.T) {
	a, b, c := testpki.NewCA("A"), testpki.NewCA("B"), testpki.NewCA("C")
	gone := b.Leaf("gone")
	text := pemOf(a.RevocationList(), b.RevocationList(testpki.Revoking(gone)), c.RevocationList())
	parts := bytes.SplitAfter(text, []byte("-----BEGIN X509 CRL-----\n"))
	parts[2][0] = '!' // the first character of the second list
	text = bytes.Join(parts, nil)
	h := newHarness(t, a, b, c)
	if err := os.WriteFile(string(h.path("all.pem")), text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.file("all.pem")
	checker, err := h.tryLoad(nil)
	if err == nil {
		t.Error("Load accepted the file, want an error")
		h.expect(checker, chain(gone), access.RevokedCertificate)
	}
}

// A certificate whose serial number no list can have has an unknown status.
func TestSerialThatNoListCanHold(t *testing.T) {
	ca := testpki.NewCA("Root")
	long := new(big.Int).Lsh(big.NewInt(1), 170)
	leaf := ca.Leaf("long", func(c *x509.Certificate) { c.SerialNumber = long })
	h := newHarness(t, ca)
	ca.WriteRevocationList(h.dir, "a.crl")
	h.file("a.crl")
	checker := h.load(nil)
	h.expect(checker, chain(leaf), access.RevocationUnknown)
	// The list that revokes it is refused as a whole, and the previous list stays in force.
	ca.WriteRevocationList(h.dir, "a.crl", testpki.Numbered(2), testpki.Revoking(leaf))
	_, err := h.tryLoad(checker)
	t.Logf("the list that revokes it: %v", err)
}

// grown returns how many bytes f allocates.
func grown(f func()) (bytes uint64) {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&now)
	return now.TotalAlloc - before.TotalAlloc
}

// unsigned returns a list in the name of p with an invalid signature, with more after nextUpdate.
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

// Before the signature is verified, a list takes at most a few times its size in memory: an attacker can make
// it.
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
			t.Errorf("%s: parseList allocated %d times the size of the list, want at most 4", name, n/uint64(len(der)))
		}
	}
}

// A list that is repeated in one PEM file is refused: each copy would cost a look-up on each request.
func TestListRepeated(t *testing.T) {
	ca := testpki.NewCA("Root")
	const times = 20_000 // 8 MiB; 48 MiB hold 120,000
	text := bytes.Repeat(pemOf(ca.RevocationList()), times)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }))
	t.Cleanup(s.Close)
	h := newHarness(t, ca)
	h.at(s.URL + "/a.crl")
	if err := h.load(nil).FetchAdded(t.Context()); err == nil || !strings.Contains(err.Error(), errManyLists.Error()) {
		t.Errorf("FetchAdded of a list that is repeated %d times returned %v, want %v", times, err, errManyLists)
	}
}

// The issuer in an unverified list is untrusted text of any length.
func TestNameOfASigner(t *testing.T) {
	ca := testpki.NewCA("Root")
	untrusted := testpki.NewCA("x\nconfiguration reloaded\x1b[2J" + strings.Repeat("y", 1<<20))
	_, err := parseList(unsigned(untrusted, func(*cryptobyte.Builder) {}), []*x509.Certificate{ca.Cert}, maxEntries)
	if err == nil || len(err.Error()) > 4<<10 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("the error has %d bytes: %.60q", len(err.Error()), err.Error())
	}
}

// A broken list of one authority does not keep the lists of others from taking effect.
func TestListKeepsOthersFromBeingRead(t *testing.T) {
	north, evil := testpki.NewCA("North"), testpki.NewCA("Evil")
	gone := north.Leaf("gone")
	h := newHarness(t, north, evil)
	north.WriteRevocationList(h.dir, "north.crl")
	evil.WriteRevocationList(h.dir, "evil.crl")
	h.file("north.crl")
	h.file("evil.crl")
	checker := h.load(nil)
	evil.WriteRevocationList(h.dir, "evil.crl", testpki.Numbered(2), extension(true, []byte{5, 0}, 1, 2, 3))
	north.WriteRevocationList(h.dir, "north.crl", testpki.Numbered(2), testpki.Revoking(gone))
	next := h.load(checker)
	h.expect(next, chain(gone), access.RevokedCertificate)
	h.expect(next, chain(evil.Leaf("a")), access.Granted) // the previous list of evil stays in use
	if n := testutil.ToFloat64(next.metrics.fetches.WithLabelValues(string(h.path("evil.crl")), "failed")); n != 1 {
		t.Errorf("%v failed reads are counted, want 1", n)
	}
}

// Lists whose URLs differ only in the query, as EJBCA's do, have different labels in metrics.
func TestMetricsOfPlacesWithAQuery(t *testing.T) {
	north, south := testpki.NewCA("North"), testpki.NewCA("South")
	p := newPublisher(t)
	p.publish(0, south.RevocationList())
	h := newHarness(t, north, south)
	h.at("http://127.0.0.1:1/certdist?issuer=north") // never read
	h.at(p.URL + "/certdist?issuer=south")
	h.Lists[0].URL.Host = h.Lists[1].URL.Host
	checker := h.load(nil)
	if err := checker.fetch(t.Context(), checker.sources[1]); err != nil {
		t.Fatal(err)
	}
	checker.metrics.export(checker)
	if a, b := checker.sources[0].String(), checker.sources[1].String(); a == b {
		t.Errorf("two lists, one of them unread, share the label %q", a)
	}
}

// A gate that starts while one list cannot be fetched is ready and serves clients of other authorities.
func TestListServerThatIsDown(t *testing.T) {
	north, evil := testpki.NewCA("North"), testpki.NewCA("Evil")
	h := newHarness(t, north, evil)
	north.WriteRevocationList(h.dir, "north.crl")
	h.file("north.crl")
	h.at("http://127.0.0.1:1/evil.crl")
	checker := h.load(nil)
	h.expect(checker, chain(north.Leaf("a")), access.Granted)
	h.expect(checker, chain(evil.Leaf("a")), access.RevocationUnknown)
	if err := checker.Ready(); err == nil {
		t.Error("Ready returned nil before the first fetch, want an error")
	}
	_ = checker.FetchAdded(t.Context())
	if err := checker.Ready(); err != nil {
		t.Errorf("Ready returned %v, want nil", err)
	}
}
