package validate

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

func sum256(b []byte) string {
	s := sha256.Sum256(b)
	return testpki.Segment(s[:])
}

// T-CNF-01 to T-CNF-07: each form of cnf, and the result for a token with the partner's
// certificate.
func TestBinding(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	right := partner.Thumbprint()
	raw := sha256.Sum256(partner.Cert.Raw)
	old := sha1.Sum(partner.Cert.Raw)
	swapped := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, right[:42]) + right[42:] // the last character would have trailing bits
	x5t := func(v any) M { return M{"x5t#S256": v} }
	for _, c := range []struct {
		name string
		cnf  any
		want access.Reason
	}{
		{"right", x5t(right), access.Granted},

		{"missing", nil, access.NotBound},
		{"null", null, access.NotBound},
		{"right, beside null", M{"x5t#S256": right, "jkt": null}, access.Granted},
		{"null members alone", M{"x5t#S256": null, "jkt": null}, access.MalformedBinding},
		{"empty", M{}, access.MalformedBinding},
		{"string", right, access.MalformedBinding},
		{"array", []string{right}, access.MalformedBinding},
		{"array of object", []M{x5t(right)}, access.MalformedBinding},
		{"number", 1, access.MalformedBinding},
		{"false", false, access.MalformedBinding},
		{"unknown member only", M{"kid": "k1"}, access.MalformedBinding},
		{"jkt only", M{"jkt": right}, access.BindingNotAccepted},
		{"right, beside jkt", M{"x5t#S256": right, "jkt": right}, access.BindingNotAccepted},
		{"right, beside a malformed jkt", M{"x5t#S256": right, "jkt": right + "="}, access.MalformedBinding},
		{"wrong, beside jkt", M{"x5t#S256": other.Thumbprint(), "jkt": right}, access.BoundToOther},
		{"right, beside jwk", M{"x5t#S256": right, "jwk": key.JWK()}, access.MalformedBinding},
		{"right, beside jwe", M{"x5t#S256": right, "jwe": "x"}, access.MalformedBinding},
		{"right, beside kid", M{"x5t#S256": right, "kid": "x"}, access.MalformedBinding},
		{"right, beside jku", M{"x5t#S256": right, "jku": "https://as.example.test/jwks"}, access.MalformedBinding},
		{"right, beside SHA-1", M{"x5t#S256": right, "x5t": testpki.Segment(old[:])}, access.MalformedBinding},
		{"right, beside an unknown member", M{"x5t#S256": right, "new": false}, access.MalformedBinding},
		{"jwk only", M{"jwk": key.JWK()}, access.MalformedBinding},
		{"SHA-1 member only", M{"x5t": testpki.Segment(old[:])}, access.MalformedBinding},
		{"member in lower case", M{"x5t#s256": right}, access.MalformedBinding},
		{"thumbprint number", x5t(1), access.MalformedBinding},
		{"thumbprint null", x5t(null), access.MalformedBinding},
		{"thumbprint array", x5t([]string{right}), access.MalformedBinding},
		{"thumbprint empty", x5t(""), access.MalformedBinding},
		{"thumbprint padded", x5t(right + "="), access.MalformedBinding},
		{"thumbprint of 42", x5t(right[:42]), access.MalformedBinding},
		{"thumbprint of 44", x5t(right + "A"), access.MalformedBinding},
		{"thumbprint in hex", x5t(hex.EncodeToString(raw[:])), access.MalformedBinding},
		{"thumbprint with a line break", x5t(right[:42] + "\n"), access.MalformedBinding},
		{"thumbprint in standard base64", x5t(base64.StdEncoding.EncodeToString(raw[:])), access.MalformedBinding},
		{"thumbprint with trailing bits", x5t(lastBits(right)), access.MalformedBinding},
		{"thumbprint of zeros", x5t(testpki.Segment(make([]byte, 32))), access.MalformedBinding},
		{"SHA-1 in the SHA-256 member", x5t(testpki.Segment(old[:])), access.MalformedBinding},

		{"another partner", x5t(other.Thumbprint()), access.BoundToOther},
		{"case swapped", x5t(swapped), access.BoundToOther},
		{"the issuing CA", x5t(ca.Thumbprint()), access.BoundToOther},
		{"the PEM text", x5t(sum256(partner.CertPEM())), access.BoundToOther},
		{"the public key", x5t(sum256(partner.Cert.RawSubjectPublicKeyInfo)), access.BoundToOther},
		{"the signed part", x5t(sum256(partner.Cert.RawTBSCertificate)), access.BoundToOther},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := key.Token(bound(M{"cnf": c.cnf}))
			expect(t, v, raw, partner, c.want)
			expect(t, v, raw, partner, c.want) // on a cache hit
		})
	}
}

// T-CNF-07, RFC 8705 section 6.3: a token bound to the previous certificate is refused with a
// renewed certificate.
func TestRenewedCertificate(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	renewed := ca.Leaf("ledger.northwind.example")
	before, after := key.Token(bound()), key.Token(testpki.Bound(issuer, audience, client, renewed))
	expect(t, v, before, partner, access.Granted)
	expect(t, v, before, renewed, access.BoundToOther)
	expect(t, v, after, renewed, access.Granted)
	expect(t, v, after, partner, access.BoundToOther)
}

// T-CNF-05, RFC 8705 section 3: without a certificate there are no claims, with or without a
// binding.
func TestNoCertificate(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	for _, cnf := range []any{M{"x5t#S256": partner.Thumbprint()}, nil, M{"x5t#S256": testpki.Segment(make([]byte, 32))}} {
		raw := key.Token(bound(M{"cnf": cnf}))
		_, _ = v.Validate(context.Background(), Credentials{Token: raw}, certificate(partner)) // cached from now on
		if _, err := v.Validate(context.Background(), Credentials{Token: raw}, nil); gatetest.Reason(t, err) != access.NoCertificate {
			t.Errorf("got %v, want no certificate", err)
		}
		// A Certificate with a zero thumbprint matches nothing.
		if _, err := v.Validate(context.Background(), Credentials{Token: raw}, &access.Certificate{}); err == nil {
			t.Error("Validate without a thumbprint = nil, want an error")
		}
	}
}

// The detail has both thumbprints, so that the log can tell a stolen token from a mix-up.
func TestBoundToOtherNamesBoth(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	raw := key.Token(bound())
	_, err := v.Validate(context.Background(), Credentials{Token: raw}, certificate(other))
	var d *access.Denial
	if !errors.As(err, &d) || d.ClientID != client {
		t.Fatalf("Validate = %v, want bound_to_other", err)
	}
	for _, thumbprint := range []string{partner.Thumbprint(), other.Thumbprint()} {
		if !strings.Contains(d.Err.Error(), thumbprint) {
			t.Errorf("detail %v, want it to have thumbprint %s", d.Err, thumbprint)
		}
	}
	if strings.Contains(err.Error(), raw[:20]) {
		t.Error("the error has the token, want it left out")
	}
}

// With another certificate of the same application, the reason is bound_to_previous, by both ways of checking.
// No answer of Renewed turns a refusal into a grant.
func TestBoundToPrevious(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	renewed := true
	asked := 0
	options := localKeys(key)
	options.Renewed = func(server, clientID string, bound access.Thumbprint, cert *access.Certificate) bool {
		asked++
		if server != "partners" || clientID != client || bound != access.ThumbprintOf(partner.Cert) || cert.Leaf != other.Cert {
			t.Errorf("Renewed(%q, %q, %s, %v)", server, clientID, bound, cert)
		}
		return renewed
	}
	v := newValidator(t, options, gatetest.AuthorizationServer())
	raw := key.Token(bound())
	expect(t, v, raw, partner, access.Granted)
	if asked > 0 {
		t.Error("Renewed was asked about a granted token")
	}
	expect(t, v, raw, other, access.BoundToPrevious)
	refusals, _ := v.Refusals(context.Background(), Credentials{Token: raw}, certificate(other))
	if len(refusals) != 1 || access.ReasonOf(refusals[0]) != access.BoundToPrevious {
		t.Errorf("Refusals = %v, want bound_to_previous", refusals)
	}
	renewed = false
	expect(t, v, raw, other, access.BoundToOther)
}
