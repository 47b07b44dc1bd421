package registeredcerts_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

// appendixB is the key with a certificate that RFC 7517 Appendix B shows.
//
//go:embed testdata/rfc7517-appendix-b.json
var appendixB string

func parse(t testing.TB, der string) *x509.Certificate {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(der)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAppendixB(t *testing.T) {
	var document struct{ Keys []struct{ X5C []string } }
	if err := json.Unmarshal([]byte(appendixB), &document); err != nil {
		t.Fatal(err)
	}
	options := silent
	options.Now = func() time.Time { return time.Date(2015, 5, 1, 0, 0, 0, 0, time.UTC) }
	s, err := registeredcerts.New(config.ClientKeys{JWKS: appendixB}, nil, options)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, s, parse(t, document.Keys[0].X5C[0]), true)
}

// Each line has a key and whether it registers its certificate, alone and beside a valid key.
func TestKeys(t *testing.T) {
	ec, other, good := testpki.SelfSigned("ec"), testpki.SelfSigned("other"), testpki.SelfSigned("good")
	rsa := selfSigned(testpki.NewSigner("PS256", "").Key)
	ed, ed2 := selfSigned(testpki.NewSigner("EdDSA", "").Key), selfSigned(testpki.NewSigner("EdDSA", "").Key)
	p224key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224 := selfSigned(p224key)
	der := x5c(ec.Cert)
	with := func(list ...string) M { return M{"x5c": list} }
	for _, c := range []struct {
		name  string
		own   *testpki.Pair
		jwk   any
		wants bool
	}{
		{"P-256", ec, jwk(ec), true},
		{"RSA", rsa, jwk(rsa), true},
		{"Ed25519", ed, jwk(ed), true},
		{"its thumbprint", ec, jwk(ec, M{"x5t#S256": ec.Thumbprint()}), true},
		{"without kid and use", ec, jwk(ec, M{"kid": nil, "use": nil}), true},
		{"use tls", ec, jwk(ec, M{"use": "tls"}), true},
		{"unknown members", ec, jwk(ec, M{"D": "x", "nbf": M{}}), true},
		{"a chain", ec, jwk(ec, with(der, x5c(other.Cert))), true},

		{"without x5c", ec, jwk(ec, M{"x5c": nil}), false},
		{"x5c empty", ec, jwk(ec, with()), false},
		{"x5c a string", ec, jwk(ec, M{"x5c": der}), false},
		{"x5c a number", ec, jwk(ec, M{"x5c": []any{1}}), false},
		{"X5C", ec, jwk(ec, M{"x5c": nil, "X5C": []string{der}}), false},
		{"x5c of PEM", ec, jwk(ec, with(string(ec.CertPEM()))), false},
		{"x5c in base64url", ec, jwk(ec, with(base64.URLEncoding.EncodeToString(ec.Cert.Raw))), false},
		{"x5c with rubbish behind", ec, jwk(ec, with(base64.StdEncoding.EncodeToString(append(slices.Clone(ec.Cert.Raw), 0)))), false},
		{"x5c cut short", ec, jwk(ec, with(der[:len(der)/8*4])), false},
		{"x5c of another key", other, jwk(ec, with(x5c(other.Cert))), false},
		{"x5c behind another's", ec, jwk(ec, with(x5c(other.Cert), der)), false},
		{"another's thumbprint", ec, jwk(ec, M{"x5t#S256": other.Thumbprint()}), false},
		{"thumbprint padded", ec, jwk(ec, M{"x5t#S256": ec.Thumbprint() + "="}), false},
		{"thumbprint no string", ec, jwk(ec, M{"x5t#S256": 1}), false},
		{"thumbprint empty", ec, jwk(ec, M{"x5t#S256": ""}), false},
		{"use enc", ec, jwk(ec, M{"use": "enc"}), false},
		{"use no string", ec, jwk(ec, M{"use": []string{"sig"}}), false},
		{"without kty", ec, jwk(ec, M{"kty": nil}), false},
		{"kty of another", ec, jwk(ec, M{"kty": "RSA"}), false},
		{"crv of another", ec, jwk(ec, M{"crv": "P-384"}), false},
		{"x of another", ec, jwk(ec, M{"x": jwk(other)["x"]}), false},
		{"y of another", ec, jwk(ec, M{"y": jwk(other)["y"]}), false},
		{"without y", ec, jwk(ec, M{"y": nil}), false},
		{"n of another", rsa, jwk(rsa, M{"n": testpki.Segment([]byte{5})}), false},
		{"e of another", rsa, jwk(rsa, M{"e": "Aw"}), false},
		{"n with a leading zero", rsa, jwk(rsa, M{"n": "AAAA" + jwk(rsa)["n"].(string)}), false},
		{"Ed25519 of another", ed, jwk(ed, M{"x": jwk(ed2)["x"]}), false},
		{"Ed25519 called EC", ed, jwk(ed, M{"kty": "EC"}), false},
		{"Ed448", ed, jwk(ed, M{"crv": "Ed448"}), false},
		{"P-224", p224, jwk(p224), false},
		{"a string", ec, der, false},
		{"null", ec, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSet(t, config.ClientKeys{JWKS: keySet(c.jwk, good)})
			expect(t, s, good.Cert, true)
			expect(t, s, c.own.Cert, c.wants)
			_, err := registeredcerts.New(config.ClientKeys{JWKS: keySet(c.jwk)}, nil, silent)
			if (err == nil) != c.wants || err != nil && !strings.Contains(err.Error(), "jwks key 1") {
				t.Errorf("New with the key alone returned %v; registers is %t, want %t", err, err == nil, c.wants)
			}
		})
	}
}

// Only the first certificate in x5c belongs to the key.
func TestChain(t *testing.T) {
	own, authority := testpki.SelfSigned("own"), testpki.NewCA("authority")
	s := newSet(t, config.ClientKeys{JWKS: keySet(jwk(own, M{"x5c": []string{x5c(own.Cert), x5c(authority.Cert)}}))})
	expect(t, s, own.Cert, true)
	expect(t, s, authority.Cert, false)
}

// A document is refused as a whole if it is not a key set, is too large or has a private key. The
// error quotes nothing from the document.
func TestKeySetRefuses(t *testing.T) {
	own := testpki.SelfSigned("ledger")
	key, _ := json.Marshal(jwk(own))
	text := string(key)
	secret := testpki.Segment(make([]byte, 32))
	private := func(name string) string { return keySet(own, jwk(own, M{name: secret})) }
	for _, c := range []struct{ name, document, want string }{
		{"null", "null", "not a JWK Set"}, {"array", "[" + text + "]", "not a JWK Set"}, {"key alone", text, "not a JWK Set"},
		{"no keys", "{}", "not a JWK Set"}, {"keys null", `{"keys":null}`, "not a JWK Set"}, {"keys an object", `{"keys":{}}`, "not a JWK Set"},
		{"Keys", `{"Keys":[` + text + `]}`, "not a JWK Set"}, {"blank", " ", "not JSON"}, {"rubbish", "<html>", "not JSON"},
		{"cut short", `{"keys":[` + text, "not JSON"}, {"trailing", keySet(own) + "x", "not JSON"}, {"two", keySet(own) + keySet(own), "not JSON"},
		{"keys twice", `{"keys":[` + text + `],"keys":[]}`, "repeated member"}, {"member twice", `{"keys":[{"use":"sig",` + text[1:] + `]}`, "repeated member"},
		{"member twice, escaped", `{"keys":[{"\u0075se":"sig",` + text[1:] + `]}`, "repeated member"},
		{"no UTF-8", `{"keys":[` + text + `],"x":"` + "\xff" + `"}`, "not JSON"},
		{"empty", keySet(), "no key registers a certificate: the set is empty"},
		{"65537 bytes", keySet(own) + strings.Repeat(" ", 64<<10+1-len(keySet(own))), "larger than 65536 bytes"},
		{"33 levels", `{"x":` + strings.Repeat("[", 33) + strings.Repeat("]", 33) + "," + keySet(own)[1:], "more than 32 levels"},
		{"4,097 values", `{"x":[1` + strings.Repeat(",1", 4096) + "]," + keySet(own)[1:], "4,096 values"},
		{"101 keys", keySet(append(slices.Repeat([]any{M{}}, 100), own)...), "more than 100 keys"},
		{"d", private("d"), "jwks key 2 has private members"}, {"p", private("p"), "private"}, {"q", private("q"), "private"},
		{"dp", private("dp"), "private"}, {"dq", private("dq"), "private"}, {"qi", private("qi"), "private"}, {"oth", private("oth"), "private"},
		{"priv", private("priv"), "private"}, {"k", keySet(own, M{"kty": "oct", "k": secret}), "private"},
		{"d null", `{"keys":[{"d":null,` + text[1:] + `]}`, "private"}, {"d of an unknown type", keySet(own, M{"kty": "new", "d": secret}), "private"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := registeredcerts.New(config.ClientKeys{JWKS: c.document}, nil, silent)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("New returned %v, want an error with %q", err, c.want)
			}
			if s := err.Error(); strings.Contains(s, secret) || strings.Contains(s, x5c(own.Cert)[:20]) || len(s) > 200 {
				t.Errorf("the error quotes the document: %v", err)
			}
		})
	}
	expect(t, newSet(t, config.ClientKeys{JWKS: keySet(append(slices.Repeat([]any{M{}}, 99), own)...)}), own.Cert, true)
	expect(t, newSet(t, config.ClientKeys{JWKS: keySet(own) + strings.Repeat(" ", 64<<10-len(keySet(own)))}), own.Cert, true)
}

// A document that registers a certificate is JSON for another parser too, and has no private
// key.
func FuzzKeySet(f *testing.F) {
	own := testpki.SelfSigned("ledger")
	for _, seed := range []struct {
		document string
		taken    bool
	}{
		{appendixB, true},
		{keySet(own), true},
		{keySet(own, own), true},
		{keySet(jwk(own, M{"use": "enc"})), false},
		{keySet(jwk(own, M{"d": "x"})), false},
		{keySet(jwk(own, M{"x": "AAAA"})), false},
		{keySet(), false},
		{`{"keys":[{"kty":"RSA","kty":"EC"}]}`, false},
	} {
		if _, err := registeredcerts.New(config.ClientKeys{JWKS: seed.document}, nil, silent); (err == nil) != seed.taken {
			f.Fatalf("seed %.40s: %v", seed.document, err)
		}
		f.Add(seed.document)
	}
	f.Fuzz(func(t *testing.T, document string) {
		now := time.Now()
		options := silent
		options.Now = func() time.Time { return now }
		s, err := registeredcerts.New(config.ClientKeys{JWKS: document}, nil, options)
		if err != nil {
			return
		}
		var set map[string]json.RawMessage // a struct would match "Keys" too
		var keys []map[string]any
		if err := json.Unmarshal([]byte(document), &set); err != nil {
			t.Fatalf("the accepted document is no JSON: %v", err)
		}
		_ = json.Unmarshal(set["keys"], &keys) // other values than objects stay nil
		registered := false
		for _, key := range keys {
			if key["d"] != nil || key["k"] != nil {
				t.Fatal("the accepted document has a private key")
			}
			c := first(key["x5c"])
			if c == nil {
				continue
			}
			now = c.NotBefore
			has, _ := s.Has(t.Context(), c)
			registered = registered || has || now.After(c.NotAfter) // fuzzed certificates may have expired
		}
		if !registered {
			t.Error("the accepted document registers no certificate")
		}
	})
}

// first returns the first certificate of an x5c member, or nil.
func first(member any) *x509.Certificate {
	list, _ := member.([]any)
	if len(list) == 0 {
		return nil
	}
	text, _ := list[0].(string)
	der, _ := base64.StdEncoding.DecodeString(text)
	c, _ := x509.ParseCertificate(der)
	return c
}
