package validate

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

func set(keys ...any) []byte { return encode(M{"keys": keys}) }

// One line a JWK: is it usable beside a good one, and alone?
func TestParseKeySet(t *testing.T) {
	es, ps := testpki.NewSigner("ES256", "es"), testpki.NewSigner("PS256", "ps")
	ed := testpki.NewSigner("EdDSA", "ed")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	offCurve := new(big.Int).Sub(elliptic.P256().Params().P, big.NewInt(1)).Bytes()
	good := testpki.NewSigner("ES256", "good")
	for _, c := range []struct {
		name   string
		jwk    any
		usable bool
	}{
		{"ES256", es.JWK(), true},
		{"PS256", ps.JWK(), true},
		{"EdDSA", ed.JWK(), true},
		{"without kid", es.JWK(M{"kid": nil}), true},
		{"without use", es.JWK(M{"use": nil}), true},
		{"without alg", ps.JWK(M{"alg": nil}), true},
		{"verify among key_ops", es.JWK(M{"use": nil, "key_ops": []string{"sign", "verify"}}), true},
		{"unknown members", es.JWK(M{"exp": 1, "nbf": M{}}), true},
		{"with its private part", es.JWK(M{"d": testpki.Segment(make([]byte, 32))}), true},

		{"use enc", es.JWK(M{"use": "enc"}), false},
		{"use unknown", es.JWK(M{"use": "x"}), false},
		{"key_ops without verify", es.JWK(M{"use": nil, "key_ops": []string{"encrypt"}}), false},
		{"alg of another type", es.JWK(M{"alg": "PS256"}), false},
		{"alg not accepted", ps.JWK(M{"alg": "RS256"}), false},
		{"alg for encryption", ps.JWK(M{"alg": "RSA-OAEP-256"}), false},
		{"alg HS256 on an RSA key", ps.JWK(M{"alg": "HS256"}), false},
		{"curve not accepted", testpki.NewSigner("ES384", "x").JWK(M{"alg": nil}), false},
		{"curve unknown", es.JWK(M{"crv": "secp256k1"}), false},
		{"curve of another", es.JWK(M{"crv": "P-384"}), false},
		{"point off the curve", es.JWK(M{"x": testpki.Segment(offCurve), "y": testpki.Segment(offCurve)}), false},
		{"point at zero", es.JWK(M{"x": testpki.Segment(make([]byte, 32)), "y": testpki.Segment(make([]byte, 32))}), false},
		{"y missing", es.JWK(M{"y": nil}), false},
		{"Ed25519 short", ed.JWK(M{"x": testpki.Segment(make([]byte, 31))}), false},
		{"X25519", ed.JWK(M{"crv": "X25519", "alg": nil}), false},
		{"Ed448", ed.JWK(M{"crv": "Ed448", "alg": nil}), false},
		{"RSA of 1024 bits", ps.JWK(M{"n": testpki.Segment(small.N.Bytes())}), false},
		{"RSA with e 1", ps.JWK(M{"e": "AQ"}), false},
		{"RSA with e missing", ps.JWK(M{"e": nil}), false},
		{"RSA with e beyond 64 bits", ps.JWK(M{"e": testpki.Segment(append([]byte{1}, 0, 0, 0, 0, 0, 1, 0, 1))}), false},
		{"oct", M{"kty": "oct", "k": testpki.Segment(make([]byte, 64)), "kid": "oct"}, false},
		{"unknown kty", M{"kty": "AKP", "kid": "x"}, false},
		{"kty missing", es.JWK(M{"kty": nil}), false},
		{"kty in another case", es.JWK(M{"kty": "ec"}), false},
		{"kid number", es.JWK(M{"kid": 1}), false},
		{"string", "x", false},
		{"null", null, false},
		{"array", []int{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			accepted := settings().Algorithms
			beside, err := parseKeySet(set(good.JWK(), c.jwk), accepted)
			if err != nil {
				t.Fatalf("the good key beside it is lost: %v", err)
			}
			if got := len(beside.keys) == 2; got != c.usable {
				t.Errorf("usable: %t, want %t", got, c.usable)
			}
			if _, err := parseKeySet(set(c.jwk), accepted); (err == nil) != c.usable {
				t.Errorf("alone: %v", err)
			}
		})
	}
}

// A set without a usable key is no set, and neither is anything else.
func TestParseKeySetRefuses(t *testing.T) {
	jwk := string(encode(testpki.NewSigner("ES256", "k").JWK()))
	for name, document := range map[string]string{
		"empty": "", "null": "null", "array": "[" + jwk + "]", "a key alone": jwk, "no keys": "{}", "keys null": `{"keys":null}`,
		"keys empty": `{"keys":[]}`, "keys an object": `{"keys":{}}`, "Keys": `{"Keys":[` + jwk + `]}`,
		"HTML": "<html></html>", "cut": `{"keys":[` + jwk, "trailing": `{"keys":[` + jwk + `]} x`,
		"keys twice": `{"keys":[` + jwk + `],"keys":[` + jwk + `]}`, "member twice": `{"keys":[{"kty":"RSA",` + jwk[1:] + `]}`,
	} {
		if s, err := parseKeySet([]byte(document), every); err == nil {
			t.Errorf("%s: %d keys, want an error", name, len(s.keys))
		}
	}
	if _, err := parseKeySet([]byte(`{"x":1,"keys":[`+jwk+`]}`), every); err != nil {
		t.Errorf("unknown members are ignored (RFC 7517 section 5): %v", err)
	}
}

// RFC 7518 sections 3.3 and 3.5: a key of fewer than 2048 bits is never used.
func TestSmallRSAKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := &testpki.Signer{Key: key, KeyID: "weak", Algorithm: "PS256"}
	v := newValidator(t, ours(weak, testpki.NewSigner("ES256", "k1")), settings())
	expect(t, v, weak.Token(bound()), partner, access.UnknownKey)
}

// A key without alg serves every accepted algorithm of its type, one with alg that
// one alone, RFC 8725 section 3.1.
func TestKeyAlgorithm(t *testing.T) {
	free := testpki.NewSigner("PS256", "free")
	document := set(free.JWK(M{"alg": nil}), free.JWK(M{"kid": "bound"}))
	_, fromFile := keyFile(t, document)
	v := newValidator(t, Options{}, settings(fromFile, algorithms(config.PS256, config.RS256)))
	for _, algorithm := range []string{"PS256", "RS256"} {
		s := &testpki.Signer{Key: free.Key, KeyID: "free", Algorithm: algorithm}
		expect(t, v, s.Token(bound()), partner, access.Granted)
	}
	expect(t, v, (&testpki.Signer{Key: free.Key, KeyID: "bound", Algorithm: "PS256"}).Token(bound()), partner, access.Granted)
	expect(t, v, (&testpki.Signer{Key: free.Key, KeyID: "bound", Algorithm: "RS256"}).Token(bound()), partner, access.UnknownKey)
}

// Several keys with one kid are tried, but not without end.
func TestKeysWithOneID(t *testing.T) {
	signers := make([]*testpki.Signer, maxCandidates+1)
	for i := range signers {
		signers[i] = testpki.NewSigner("EdDSA", "same")
	}
	v := newValidator(t, ours(append(signers, testpki.NewSigner("ES256", "same"))...), settings())
	for i, s := range signers {
		want := access.Granted
		if i >= maxCandidates {
			want = access.BadSignature
		}
		expect(t, v, s.Token(bound()), partner, want)
	}
}

// Private members in a set neither hurt nor are used: the public part counts.
func TestPrivateMembers(t *testing.T) {
	key, foreign := testpki.NewSigner("EdDSA", "k1"), testpki.NewSigner("EdDSA", "k1")
	_, fromFile := keyFile(t, set(key.JWK(M{"d": testpki.Segment(make([]byte, 32))})))
	v := newValidator(t, Options{}, settings(fromFile))
	expect(t, v, key.Token(bound()), partner, access.Granted)
	expect(t, v, foreign.Token(bound()), partner, access.BadSignature)
}

// x5c in a key set must fit the key, and is no other way in.
func TestCertificateInKeySet(t *testing.T) {
	pair := testpki.SelfSigned("as.example")
	s := &testpki.Signer{Key: pair.Key, KeyID: "k1", Algorithm: "ES256"}
	der := func(c *x509.Certificate) []string {
		b, _ := json.Marshal(c.Raw)
		return []string{strings.Trim(string(b), `"`)}
	}
	for name, c := range map[string]struct {
		x5c  []string
		keys int
	}{"its own": {der(pair.Cert), 1}, "another's": {der(partner.Cert), 0}, "rubbish": {[]string{"AAAA"}, 0}} {
		got, err := parseKeySet(set(s.JWK(M{"x5c": c.x5c})), every)
		if (err == nil) != (c.keys == 1) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// New names what stops the start.
func TestNewRefuses(t *testing.T) {
	good := testpki.KeySet(testpki.NewSigner("ES256", "k1"))
	goodFile, fromGood := keyFile(t, good)
	brokenFile, fromBroken := keyFile(t, []byte("{}"))
	emptyPEM := t.TempDir() + "/empty.pem"
	write(t, emptyPEM, []byte("no certificate here"))
	missing := t.TempDir() + "/missing"
	at := func(u string) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) { s.KeySet.URL = parseURL(t, u) }
	}
	trust := func(paths ...config.Path) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) { s.KeySet.Trust = paths }
	}
	file := func(path string) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) { s.KeySet.File = config.Path(path) }
	}
	plain := func(s *config.AuthorizationServer) {}
	for _, c := range []struct {
		name  string
		edits []func(*config.AuthorizationServer)
		names string // what the error must name; "" for none
	}{
		{"a file", []func(*config.AuthorizationServer){fromGood}, ""},
		{"a URL nobody answers at", []func(*config.AuthorizationServer){at("https://127.0.0.1:1/jwks")}, ""},
		{"no key set", []func(*config.AuthorizationServer){plain}, "partners"},
		{"a missing file", []func(*config.AuthorizationServer){file(missing)}, missing},
		{"a file without keys", []func(*config.AuthorizationServer){fromBroken}, brokenFile},
		{"a folder", []func(*config.AuthorizationServer){file(t.TempDir())}, "partners"},
		{"http", []func(*config.AuthorizationServer){at("http://127.0.0.1:1/jwks")}, "https"},
		{"trust without certificate", []func(*config.AuthorizationServer){at("https://127.0.0.1:1/"), trust(config.Path(emptyPEM))}, emptyPEM},
		{"trust missing", []func(*config.AuthorizationServer){at("https://127.0.0.1:1/"), trust(config.Path(missing))}, missing},
		{"refresh zero", []func(*config.AuthorizationServer){fromGood, func(s *config.AuthorizationServer) { s.KeySet.Refresh = 0 }}, "refresh"},
		{"cool_down zero", []func(*config.AuthorizationServer){fromGood, func(s *config.AuthorizationServer) { s.KeySet.CoolDown = 0 }}, "cool_down"},
		{"max_stale zero", []func(*config.AuthorizationServer){fromGood, func(s *config.AuthorizationServer) { s.KeySet.MaxStale = 0 }}, "max_stale"},
	} {
		_, err := New([]config.AuthorizationServer{settings(c.edits...)}, Options{})
		if c.names == "" && err != nil || c.names != "" && (err == nil || !strings.Contains(fmt.Sprint(err), c.names)) {
			t.Errorf("%s: got %v, want an error that names %q", c.name, err, c.names)
		}
	}
	if _, err := New([]config.AuthorizationServer{settings(file(goodFile)), settings(file(goodFile))}, Options{}); err == nil {
		t.Error("two servers with one issuer")
	}
	if _, err := New([]config.AuthorizationServer{settings()}, Options{Local: map[config.Identifier]LocalKeySet{issuer: ownKeys([]byte("{}"))}}); err == nil {
		t.Error("our own issuer without keys")
	}
}

// T-AS-14: a key of our own issuer counts from its first token, without waiting for a
// schedule, and one that is no longer published counts no more, also on a cache hit.
func TestLocalKeySetIsFollowed(t *testing.T) {
	old, next := testpki.NewSigner("ES256", "old"), testpki.NewSigner("ES256", "next")
	var version atomic.Uint64
	sets := [][]byte{nil, testpki.KeySet(old), testpki.KeySet(old, next), testpki.KeySet(next)}
	v := newValidator(t, Options{Local: map[config.Identifier]LocalKeySet{issuer: func() ([]byte, uint64) {
		n := version.Load()
		return sets[n], n
	}}}, settings())
	first, second := old.Token(bound()), next.Token(bound())
	steps := []struct{ first, second access.Reason }{
		{access.IssuerUnavailable, access.IssuerUnavailable}, // not opened yet
		{access.Granted, access.UnknownKey},
		{access.Granted, access.Granted},
		{access.UnknownKey, access.Granted},
	}
	for n, want := range steps {
		version.Store(uint64(n))
		expect(t, v, first, partner, want.first)
		expect(t, v, second, partner, want.second)
	}
}
