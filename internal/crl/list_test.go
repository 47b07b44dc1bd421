package crl

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	encodingasn1 "encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/internal/testpki"
)

// extension adds an extension with an encoded value.
func extension(critical bool, value []byte, id ...int) testpki.ListOption {
	return testpki.Extended(pkix.Extension{Id: id, Critical: critical, Value: value})
}

// point encodes an IssuingDistributionPoint.
func point(members ...[]byte) []byte {
	body := bytes.Join(members, nil)
	return append([]byte{0x30, byte(len(body))}, body...)
}

// T-CRL-04, RFC 5280 sections 5.2 and 6.3: parseList accepts complete lists that an authority signed for its
// own certificates, and refuses others with the reason.
func TestParseList(t *testing.T) {
	ca, other, namesake := testpki.NewCA("Root"), testpki.NewCA("Other"), testpki.NewCA("Root")
	gone := ca.Leaf("a")
	authorities := []*x509.Certificate{other.Cert, namesake.Cert, ca.Cert}
	notForLists := testpki.NewCA("Mute", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	entry := func(e pkix.Extension, number *big.Int) testpki.ListOption {
		return testpki.Entry(x509.RevocationListEntry{SerialNumber: number, RevocationTime: time.Now(), ExtraExtensions: []pkix.Extension{e}})
	}
	long := new(big.Int).Lsh(big.NewInt(1), 161)
	whole := ca.RevocationList(testpki.Revoking(gone))
	foreign := bytes.Clone(whole)
	foreign[len(foreign)-1] ^= 1
	for name, c := range map[string]struct {
		der  []byte
		want error
		text string
	}{
		"complete":            {der: whole},
		"empty":               {der: ca.RevocationList()},
		"for users":           {der: ca.RevocationList(extension(true, point([]byte{0x81, 1, 0xff}), 2, 5, 29, 28))},
		"for authorities":     {der: ca.RevocationList(extension(true, point([]byte{0x82, 1, 0xff}), 2, 5, 29, 28))},
		"of a place":          {der: ca.RevocationList(place("http://pki.example/a.crl"))},
		"of no URI":           {der: ca.RevocationList(extension(true, point([]byte{0xa0, 0}), 2, 5, 29, 28)), want: errNoURI},
		"a wide truth value":  {der: ca.RevocationList(extension(true, point([]byte{0x81, 2, 0xff, 0xff}), 2, 5, 29, 28)), want: errMalformed},
		"of tomorrow":         {der: ca.RevocationList(testpki.Updated(time.Now().Add(2*time.Hour), time.Now().Add(48*time.Hour))), want: errFuture},
		"with a note":         {der: ca.RevocationList(extension(false, []byte{5, 0}, 1, 2, 3))},
		"delta":               {der: ca.RevocationList(extension(true, []byte{2, 1, 1}, 2, 5, 29, 27)), want: errDelta},
		"delta, not critical": {der: ca.RevocationList(extension(false, []byte{2, 1, 1}, 2, 5, 29, 27)), want: errDelta},
		"indirect":            {der: ca.RevocationList(extension(true, point([]byte{0x84, 1, 0xff}), 2, 5, 29, 28)), want: errIndirect},
		"some reasons":        {der: ca.RevocationList(extension(true, point([]byte{0x83, 2, 1, 0x40}), 2, 5, 29, 28)), want: errReasons},
		"attributes":          {der: ca.RevocationList(extension(true, point([]byte{0x85, 1, 0xff}), 2, 5, 29, 28)), want: errCritical},
		"a place, cut short":  {der: ca.RevocationList(extension(true, []byte{0x30, 9, 0x81}, 2, 5, 29, 28)), want: errMalformed},
		"a critical note":     {der: ca.RevocationList(extension(true, []byte{5, 0}, 1, 2, 3)), want: errCritical},
		"another's entry":     {der: ca.RevocationList(entry(pkix.Extension{Id: encodingasn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}, big.NewInt(7))), want: errCritical},
		"a noted entry":       {der: ca.RevocationList(entry(pkix.Extension{Id: encodingasn1.ObjectIdentifier{2, 5, 29, 24}, Value: []byte{5, 0}}, big.NewInt(7)))},
		"a long number":       {der: ca.RevocationList(testpki.Entry(x509.RevocationListEntry{SerialNumber: long, RevocationTime: time.Now()})), want: errSerial},
		"no next update":      {der: withoutNext(t, ca), want: errNoNext},
		"another's":           {der: testpki.NewCA("Stranger").RevocationList(), text: `the issuer of the list is "CN=Stranger", which is neither`},
		"of the same name":    {der: testpki.NewCA("Root").RevocationList(), text: "signature of the list is not by CN=Root"},
		"a changed signature": {der: foreign, text: "signature of the list is not by CN=Root"},
		"may not sign lists":  {der: mute(t, notForLists), text: "neither an anchor"},
		"cut short":           {der: whole[:len(whole)/2], want: errMalformed},
		"with more behind":    {der: append(bytes.Clone(whole), 0), want: errMalformed},
		"nothing":             {want: errMalformed},
	} {
		l, err := parseList(c.der, authorities, maxEntries)
		switch {
		case c.want == nil && c.text == "":
			if err != nil || l.signer != signerOf(ca.Cert) {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text):
			t.Errorf("%s: %v, want %v %s", name, err, c.want, c.text)
		}
	}
	if _, err := parseList(mute(t, notForLists), []*x509.Certificate{notForLists.Cert}, maxEntries); err == nil {
		t.Error("parseList accepted a list by an authority without cRLSign, want an error")
	}
	l, err := parseList(whole, authorities, maxEntries)
	if s, _ := serialOf(gone.Cert); err != nil || len(l.revoked) != 1 {
		t.Errorf("parseList returned %v, %v, want one revoked certificate", l, err)
	} else if _, ok := l.revoked[s]; !ok {
		t.Errorf("%x is not on the list: %x", s, l.revoked)
	}
}

// mute returns a list by an authority whose key usage excludes cRLSign.
func mute(t *testing.T, p *testpki.Pair) []byte {
	t.Helper()
	able := *p.Cert
	able.KeyUsage |= x509.KeyUsageCRLSign
	return (&testpki.Pair{Cert: &able, Key: p.Key}).RevocationList()
}

// withoutNext returns a list without nextUpdate, which crypto/x509 does not make.
func withoutNext(t *testing.T, p *testpki.Pair) []byte {
	t.Helper()
	return handmade(t, p, time.Time{}, nil)
}

// handmade returns a signed list with the given entries.
func handmade(t testing.TB, p *testpki.Pair, next time.Time, entries func(*cryptobyte.Builder)) []byte {
	t.Helper()
	algorithm := func(b *cryptobyte.Builder) { // ecdsa-with-SHA256
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(encodingasn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})
		})
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		algorithm(b)
		b.AddBytes(p.Cert.RawSubject)
		b.AddASN1UTCTime(time.Now().Add(-time.Hour))
		if !next.IsZero() {
			b.AddASN1UTCTime(next)
		}
		if entries != nil {
			b.AddASN1(asn1.SEQUENCE, entries)
		}
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // CRL number
					b.AddASN1ObjectIdentifier(encodingasn1.ObjectIdentifier{2, 5, 29, 20})
					b.AddASN1OctetString([]byte{2, 1, 1})
				})
			})
		})
	})
	signed := b.BytesOrPanic()
	sum := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, p.Key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var list cryptobyte.Builder
	list.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(signed)
		algorithm(b)
		b.AddASN1BitString(signature)
	})
	return list.BytesOrPanic()
}

// Lists are in DER or PEM; a PEM file may have several.
func TestDEROf(t *testing.T) {
	a, b := testpki.NewCA("A").RevocationList(), testpki.NewCA("B").RevocationList()
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	both := append(block("X509 CRL", a), block("X509 CRL", b)...)
	for name, c := range map[string]struct {
		data []byte
		want int // 0: an error
	}{
		"DER": {a, 1}, "PEM": {block("X509 CRL", a), 1}, "two": {both, 2}, "with words": {append([]byte("the list:\n"), both...), 2},
		"a certificate": {block("CERTIFICATE", a), 0}, "cut short": {both[:len(both)-40], 0}, "the beginning": {both[:20], 0},
	} {
		ders, err := splitPEM(c.data)
		if len(ders) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d lists, %v", name, len(ders), err)
		}
	}
}

// For any bytes, cutEntries and serials agree with crypto/x509 about every list that they accept.
func FuzzList(f *testing.F) {
	ca := testpki.NewCA("Root")
	seeds := [][]byte{
		ca.RevocationList(), ca.RevocationList(testpki.Revoking(ca.Leaf("a"), ca.Leaf("b"))),
		ca.RevocationList(testpki.Updated(time.Now(), time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC)), testpki.Revoking(ca.Leaf("a"))),
		ca.RevocationList(extension(true, point([]byte{0x81, 1, 0xff}), 2, 5, 29, 28)),
	}
	check := func(der []byte) (bool, error) {
		reference, refused := x509.ParseRevocationList(der)
		parts, err := cutEntries(der)
		if err != nil {
			return false, err
		}
		head, err := x509.ParseRevocationList(parts.head)
		if err != nil {
			return false, err
		}
		got, err := serials(parts.entries, maxEntries)
		if err != nil || refused != nil {
			return false, err
		}
		want := make(map[serial]struct{})
		for _, e := range reference.RevokedCertificateEntries {
			var s serial
			e.SerialNumber.FillBytes(s[:])
			want[s] = struct{}{}
		}
		same := bytes.Equal(parts.signed, reference.RawTBSRevocationList) && bytes.Equal(head.RawIssuer, reference.RawIssuer) &&
			head.NextUpdate.Equal(reference.NextUpdate) && head.ThisUpdate.Equal(reference.ThisUpdate) && len(head.Extensions) == len(reference.Extensions) && len(got) == len(want)
		for s := range want {
			if _, ok := got[s]; !ok {
				same = false
			}
		}
		if !same {
			return false, errors.New("read in another way")
		}
		return true, nil
	}
	for _, seed := range seeds {
		f.Add(seed)
		if ok, err := check(seed); !ok {
			f.Fatalf("a seed is not read: %v", err)
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := check(der); err != nil && strings.Contains(err.Error(), "another way") {
			t.Errorf("%x: %v", der, err)
		}
	})
}

// T-CRL-07: a million entries are parsed in bounded memory and looked up without an allocation.
func TestMillionEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	const entries = 1_000_000
	ca := testpki.NewCA("Root")
	var last serial
	der := handmade(t, ca, time.Now().Add(time.Hour), func(b *cryptobyte.Builder) {
		number := make([]byte, 16)
		when := time.Now()
		for range entries {
			_, _ = rand.Read(number)
			number[0] = number[0]&0x3f | 0x40
			copy(last[4:], number)
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1BigInt(new(big.Int).SetBytes(number))
				b.AddASN1UTCTime(when)
			})
		}
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	l, err := parseList(der, []*x509.Certificate{ca.Cert}, maxEntries)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if err != nil || len(l.revoked) != entries {
		t.Fatalf("%d entries, %v", len(l.revoked), err)
	}
	t.Logf("%d MiB with %d entries: %s, %d MiB allocated", len(der)>>20, entries, took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20)
	if _, ok := l.revoked[last]; !ok {
		t.Error("the list does not have the last serial number")
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4*uint64(len(der)) {
		t.Errorf("reading a list of %d bytes takes %d", len(der), grown)
	}
	r := &Checker{sources: []*source{{}}}
	r.sources[0].current.Store(indexOf([]*list{l}))
	way := []Certificate{{by: l.signer, listable: true, number: serial{1}}}
	if n := testing.AllocsPerRun(100, func() { _ = r.Check(way, time.Now()) }); n > 0 {
		t.Errorf("Check made %v allocations, want 0", n)
	}
	way[0].number = last
	if err := r.Check(way, time.Now()); err == nil {
		t.Error("Check accepted the last certificate on the list, want RevokedCertificate")
	}
}
