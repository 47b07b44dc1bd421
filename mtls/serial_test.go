package mtls

import (
	"errors"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A negative serial number in a chain is refused with this reason, and ignored in extra certificates.
func TestNegativeSerialNumbers(t *testing.T) {
	t.Setenv("GODEBUG", "x509negativeserial=1") // as package main has it
	ca := testpki.NewCA("Root")
	plain := ca.Intermediate("Issuing")
	issuing := plain.Negative(ca)
	anchor := ca.Negative(ca)
	leaf := plain.Leaf("a")
	trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	open := load(t, true, map[config.Name][]*testpki.Pair{"northwind": {ca}})
	own := testpki.SelfSigned("own")
	for _, tt := range []struct {
		name  string
		trust *Trust
		chain []*testpki.Pair
		want  access.Reason
	}{
		{"the client's", trust, []*testpki.Pair{ca.Leaf("a").Negative(ca)}, access.UntrustedCertificate},
		{"a self-signed client's", open, []*testpki.Pair{own.Negative(own)}, access.UntrustedCertificate},
		{"of an authority above it", trust, []*testpki.Pair{leaf, issuing}, access.UntrustedCertificate},
		{"of another with the same key", trust, []*testpki.Pair{leaf, issuing, plain}, access.Granted},
		{"of an unused certificate", trust, []*testpki.Pair{ca.Leaf("a"), issuing}, access.Granted},
		{"of the anchor, whose name and key alone count", load(t, false, map[config.Name][]*testpki.Pair{"northwind": {anchor}}), []*testpki.Pair{ca.Leaf("a")}, access.Granted},
	} {
		shown := chain(tt.chain[0])[:1]
		for _, p := range tt.chain[1:] {
			shown = append(shown, p.Cert)
		}
		_, err := client(tt.trust, shown)
		if judged := tt.trust.checkConnection(shown, time.Now()); reason(err) != tt.want || reason(judged) != tt.want {
			t.Errorf("%s: judged %v and %v, want %s", tt.name, err, judged, tt.want)
		}
		if err != nil && !errors.Is(err, errSerialSign) {
			t.Errorf("%s: %v does not tell of it", tt.name, err)
		}
	}
}
