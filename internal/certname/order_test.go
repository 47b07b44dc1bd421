package certname

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// A name in the order that openssl prints is LeafFirst; reversed it is the name of the certificate.
func TestLeafFirst(t *testing.T) {
	subject, err := asn1.Marshal(pkix.Name{Country: []string{"DE"}, Organization: []string{"Northwind"}, CommonName: "ledger"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want bool
	}{
		{"C = DE, O = Northwind, CN = ledger", true},
		{"CN=ledger,O=Northwind,C=DE", false},
		{"DC=example,DC=northwind,UID=ledger", true},
		{"UID=ledger,DC=northwind,DC=example", false},
		{"CN=ledger", false},
		{"O=Northwind,OU=Ledger", false}, // the order is not known
	} {
		var dn DN
		if err := dn.UnmarshalText([]byte(tt.name)); err != nil {
			t.Fatal(err)
		}
		if got := dn.LeafFirst(); got != tt.want {
			t.Errorf("LeafFirst of %q = %t, want %t", tt.name, got, tt.want)
		}
		if got, want := dn.Reversed().MatchesSubject(subject), tt.name == "C = DE, O = Northwind, CN = ledger"; got != want {
			t.Errorf("%q reversed matches the subject: %t, want %t", tt.name, got, want)
		}
	}
	if SubjectIsLeafFirst(subject) {
		t.Error("SubjectIsLeafFirst of a subject from C to CN = true, want false")
	}
}
