package mtls

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-ADD-18: a NUL does not end a name. Names are compared as a whole, and a certificate with a NUL in a
// name is refused.
func TestNULInNames(t *testing.T) {
	ca := testpki.NewCA("Root")
	strict := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	open := load(t, true, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	const host, id, mail = "ledger.northwind.example", "spiffe://northwind.example/ledger", "ledger@northwind.example"
	var dn certname.DN
	if err := dn.UnmarshalText([]byte("CN=ledger,O=Northwind")); err != nil {
		t.Fatal(err)
	}
	registered := []config.RegisteredCertificate{{SubjectDN: dn}, {SANDNS: host}, {SANURI: id}, {SANEmail: mail}}
	good := utf8String(oidO, "Northwind")
	uri := func(text string) []byte { return general(0x86, []byte(text)) }
	for _, tt := range []struct {
		name    string
		options []testpki.Option
	}{
		{"DNS name, cut off", []testpki.Option{alternatives(false, general(0x82, []byte(host+"\x00.evil.example")))}},
		{"DNS name, at the end", []testpki.Option{alternatives(false, general(0x82, []byte(host+"\x00")))}},
		{"DNS name beside a good one", []testpki.Option{alternatives(false, general(0x82, []byte("a.example")), general(0x82, []byte("b\x00.example")))}},
		{"address", []testpki.Option{alternatives(false, general(0x81, []byte(mail+"\x00.evil.example")))}},
		{"common name", []testpki.Option{subject(good, utf8String(oidCN, "ledger\x00evil"))}},
		{"organisation", []testpki.Option{subject(utf8String(oidO, "Northwind\x00"), utf8String(oidCN, "ledger"))}},
		{"in BMPString", []testpki.Option{subject(good, attribute{oidCN, asn1.Tag(30), "\x00l\x00e\x00d\x00g\x00e\x00r\x00\x00"})}},
		{"directory name", []testpki.Option{alternatives(false, general(0x82, []byte("a.example")), directory(utf8String(oidO, "a\x00")))}},
	} {
		leaf := ca.Leaf("a", tt.options...)
		for _, r := range registered {
			if r.MatchesName(leaf.Cert) {
				t.Errorf("%s: it is taken for %s", tt.name, r.String())
			}
		}
		for _, trust := range []*Trust{strict, open} {
			_, err := client(trust, chain(leaf))
			judged := trust.checkConnection(chain(leaf), time.Now())
			if reason(err) != access.UntrustedCertificate || !errors.Is(err, errNUL) || reason(judged) != access.UntrustedCertificate {
				t.Errorf("%s: judged %v and %v", tt.name, err, judged)
			}
		}
	}
	// The zero bytes of a BMPString are not NUL characters.
	if _, err := client(strict, chain(ca.Leaf("a", subject(good, attribute{oidCN, asn1.Tag(30), "\x00l\x00e"})))); err != nil {
		t.Errorf("BMPString: %v", err)
	}
	// crypto/x509 rejects URIs with NUL.
	for _, text := range []string{id + "\x00", id + "\x00/evil", "spiffe://northwind.example\x00.evil.example/ledger"} {
		if c, err := parsed(ca, alternatives(false, uri(text))); err == nil {
			t.Errorf("%q is taken: %v", text, c.URIs)
		}
	}
}

// parsed returns a certificate by ca, or the error of crypto/x509.
func parsed(ca *testpki.Pair, options ...testpki.Option) (c *x509.Certificate, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = v.(error) // testpki's
		}
	}()
	return ca.Leaf("a", options...).Cert, nil
}
