package mtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strconv"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-ADD-22: a chain whose authorities may all have signed each other costs a few signature checks, not one
// for each order of them.
func TestUntrustedAuthoritiesSignEachOther(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	anchor := testpki.NewCA("Northwind CA")
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {anchor}})
	for _, name := range []string{"Stranger", "Northwind CA"} {
		top := testpki.NewCA(name, testpki.Keyed(key))
		presented := []*x509.Certificate{top.Leaf("a").Cert}
		for i := range 5 { // crypto/x509 takes those with other names in the SAN for others
			presented = append(presented, testpki.NewCA(name, testpki.Keyed(key), testpki.DNS(strconv.Itoa(i)+".example")).Cert)
		}
		one, all := time.Hour, time.Hour
		for range 5 {
			start := time.Now()
			if err := presented[1].CheckSignatureFrom(top.Cert); err != nil {
				t.Fatal(err)
			}
			one = min(one, time.Since(start))
			start = time.Now()
			if _, err := client(trust, presented); reason(err) != access.UntrustedCertificate {
				t.Fatalf("judged %v", err)
			}
			all = min(all, time.Since(start))
		}
		t.Logf("%s: %v, one signature check: %v", name, all, one)
		if all > 20*one {
			t.Errorf("%s: %v, which is %d signature checks", name, all, all/one)
		}
	}
}

// signedByAnchors finds certificates that are signed through others, in any order.
func TestSignedByAnchors(t *testing.T) {
	anchor := testpki.NewCA("Root")
	issuing := anchor.Intermediate("Issuing")
	lower := issuing.Intermediate("Lower")
	namesake := testpki.NewCA("Root").Intermediate("Issuing")
	a := newAuthorities([]*x509.Certificate{anchor.Cert})
	for _, order := range [][]*x509.Certificate{
		{issuing.Cert, lower.Cert, namesake.Cert}, {lower.Cert, issuing.Cert, namesake.Cert}, {namesake.Cert, lower.Cert, issuing.Cert},
	} {
		got := a.signedByAnchors(order)
		if len(got) != 2 || got[0] != issuing.Cert || got[1] != lower.Cert {
			t.Errorf("signedByAnchors returned %d certificates, want all", len(got))
		}
	}
	if got := a.signedByAnchors([]*x509.Certificate{lower.Cert, namesake.Cert}); len(got) != 0 {
		t.Errorf("signedByAnchors without the intermediate returned %d certificates, want 0", len(got))
	}
}
