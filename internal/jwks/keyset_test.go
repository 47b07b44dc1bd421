package jwks

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// One line for each JWK: is it usable beside a good key, and alone?
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
			accepted := gatetest.AuthorizationServer().Algorithms
			beside, err := parse(gatetest.KeySet(good.JWK(), c.jwk), accepted, "")
			if err != nil {
				t.Fatalf("parse with a good key = %v, want the good key", err)
			}
			if got := len(beside.keys) == 2; got != c.usable {
				t.Errorf("usable: %t, want %t", got, c.usable)
			}
			if _, err := parse(gatetest.KeySet(c.jwk), accepted, ""); (err == nil) != c.usable {
				t.Errorf("parse of the key alone = %v", err)
			}
		})
	}
}

// A document without a usable key is an error.
func TestParseKeySetRefuses(t *testing.T) {
	jwk := string(gatetest.JSON(testpki.NewSigner("ES256", "k").JWK()))
	for name, document := range map[string]string{
		"empty": "", "null": "null", "array": "[" + jwk + "]", "a key alone": jwk, "no keys": "{}", "keys null": `{"keys":null}`,
		"keys empty": `{"keys":[]}`, "keys an object": `{"keys":{}}`, "Keys": `{"Keys":[` + jwk + `]}`,
		"HTML": "<html></html>", "cut": `{"keys":[` + jwk, "trailing": `{"keys":[` + jwk + `]} x`,
		"keys twice": `{"keys":[` + jwk + `],"keys":[` + jwk + `]}`, "member twice": `{"keys":[{"kty":"RSA",` + jwk[1:] + `]}`,
	} {
		if s, err := parse([]byte(document), every, ""); err == nil {
			t.Errorf("%s: %d keys, want an error", name, len(s.keys))
		}
	}
	if _, err := parse([]byte(`{"x":1,"keys":[`+jwk+`]}`), every, ""); err != nil {
		t.Errorf("parse with unknown members = %v, want nil (RFC 7517 section 5)", err)
	}
}

// RFC 7518 sections 3.3 and 3.5: RSA keys below 2048 bits are not used.
func TestSmallRSAKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := &testpki.Signer{Key: key, KeyID: "weak", Algorithm: "PS256"}
	v := newSource(t, localKeySet(testpki.KeySet(weak, testpki.NewSigner("ES256", "k1"))), gatetest.AuthorizationServer())
	expect(t, v, weak.Token(bound()), access.UnknownKey)
}

// A key without alg verifies every accepted algorithm of its type, and a key with alg verifies
// this algorithm alone, RFC 8725 section 3.1.
func TestKeyAlgorithm(t *testing.T) {
	free := testpki.NewSigner("PS256", "free")
	document := gatetest.KeySet(free.JWK(M{"alg": nil}), free.JWK(M{"kid": "bound"}))
	_, fromFile := gatetest.KeyFile(t, document)
	v := newSource(t, nil, gatetest.AuthorizationServer(fromFile, gatetest.Algorithms(config.PS256, config.RS256)))
	for _, algorithm := range []string{"PS256", "RS256"} {
		s := &testpki.Signer{Key: free.Key, KeyID: "free", Algorithm: algorithm}
		expect(t, v, s.Token(bound()), access.Granted)
	}
	expect(t, v, (&testpki.Signer{Key: free.Key, KeyID: "bound", Algorithm: "PS256"}).Token(bound()), access.Granted)
	expect(t, v, (&testpki.Signer{Key: free.Key, KeyID: "bound", Algorithm: "RS256"}).Token(bound()), access.UnknownKey)
}

// Ed25519 is the name of EdDSA on its curve since RFC 9864: a server that is configured with EdDSA
// may change the names in its tokens and its keys one after the other. Ed25519 alone does not
// accept the old name in tokens.
func TestEd25519(t *testing.T) {
	signer := testpki.NewSigner("EdDSA", "k1")
	for _, c := range []struct {
		accepted   config.Algorithm
		key, token string
		want       access.Reason
	}{
		{"EdDSA", "EdDSA", "EdDSA", access.Granted},
		{"EdDSA", "EdDSA", "Ed25519", access.Granted},
		{"EdDSA", "Ed25519", "EdDSA", access.Granted},
		{"EdDSA", "Ed25519", "Ed25519", access.Granted},
		{"EdDSA", "", "Ed25519", access.Granted},
		{"Ed25519", "EdDSA", "Ed25519", access.Granted},
		{"Ed25519", "Ed25519", "Ed25519", access.Granted},
		{"Ed25519", "Ed25519", "EdDSA", access.UnsupportedAlgorithm},
		{"EdDSA", "EdDSA", "Ed448", access.UnsupportedAlgorithm},
		{"EdDSA", "EdDSA", "ed25519", access.UnsupportedAlgorithm},
		{"ES256", "EdDSA", "Ed25519", access.UnsupportedAlgorithm},
	} {
		jwk := signer.JWK(M{"alg": c.key})
		if c.key == "" {
			jwk = signer.JWK(M{"alg": nil})
		}
		_, fromFile := gatetest.KeyFile(t, gatetest.KeySet(jwk, testpki.NewSigner("ES256", "other").JWK()))
		s := newSource(t, nil, gatetest.AuthorizationServer(fromFile, gatetest.Algorithms(c.accepted, config.ES256)))
		t.Run(fmt.Sprintf("%s, key %s, token %s", c.accepted, c.key, c.token), func(t *testing.T) {
			expect(t, s, signer.Token(bound(), M{"alg": c.token}), c.want)
		})
	}
}

// RS384 and RS512 are accepted where they are configured, and only with their own hash.
func TestLongerRSAHashes(t *testing.T) {
	for _, algorithm := range []config.Algorithm{config.RS384, config.RS512} {
		signer := testpki.NewSigner(string(algorithm), "k1")
		s := newSource(t, localKeySet(testpki.KeySet(signer)), gatetest.AuthorizationServer(gatetest.Algorithms(algorithm)))
		expect(t, s, signer.Token(bound()), access.Granted)
		expect(t, s, (&testpki.Signer{Key: signer.Key, KeyID: "k1", Algorithm: "RS256"}).Token(bound(), M{"alg": string(algorithm)}), access.BadSignature)
		expect(t, s, (&testpki.Signer{Key: signer.Key, KeyID: "k1", Algorithm: "RS256"}).Token(bound()), access.UnsupportedAlgorithm)
		without := newSource(t, localKeySet(gatetest.KeySet(signer.JWK(M{"alg": nil}))), gatetest.AuthorizationServer(gatetest.Algorithms(config.RS256)))
		expect(t, without, signer.Token(bound()), access.UnsupportedAlgorithm)
	}
}

// A token without kid is verified by the keys that fit its algorithm, the first four of them, RFC
// 7515 appendix D.
func TestTokenWithoutKeyID(t *testing.T) {
	signers := make([]*testpki.Signer, maxCandidates+1)
	for i := range signers {
		signers[i] = testpki.NewSigner("ES256", fmt.Sprint("k", i))
	}
	keys := append([]*testpki.Signer{testpki.NewSigner("PS256", "rsa"), testpki.NewSigner("EdDSA", "ed")}, signers...)
	s := newSource(t, localKeySet(testpki.KeySet(keys...)), gatetest.AuthorizationServer())
	for i, signer := range signers {
		want := access.Granted
		if i >= maxCandidates {
			want = access.BadSignature
		}
		expect(t, s, signer.Token(bound(), M{"kid": nil}), want)
	}
	expect(t, s, testpki.NewSigner("ES256", "stranger").Token(bound(), M{"kid": nil}), access.BadSignature)
	expect(t, s, signers[0].Token(bound(), M{"kid": "k1"}), access.BadSignature) // a kid names one key
}

// If tokens without typ are accepted, a typ must still be one of the other accepted types, and the
// word for "no typ" is not a typ.
func TestAbsentType(t *testing.T) {
	signer := testpki.NewSigner("ES256", "k1")
	s := newSource(t, localKeySet(testpki.KeySet(signer)), gatetest.AuthorizationServer())
	for _, c := range []struct {
		typ      any // nil: absent
		accepted []string
		granted  bool
	}{
		{nil, []string{config.NoType}, true},
		{null, []string{config.NoType}, true},
		{nil, []string{"at+jwt", config.NoType}, true},
		{"at+jwt", []string{"at+jwt", config.NoType}, true},
		{nil, []string{"at+jwt"}, false},
		{null, []string{"at+jwt"}, false},
		{"absent", []string{config.NoType}, false},
		{"application/absent", []string{config.NoType}, false},
		{"", []string{config.NoType}, false},
		{"JWT", []string{config.NoType}, false},
		{5, []string{config.NoType}, false},
		{5, []string{"JWT"}, false},
		{M{}, []string{config.NoType, "JWT"}, false},
	} {
		jws, err := Parse(signer.Token(bound(), M{"typ": c.typ}))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = s.Verify(t.Context(), jws, MediaTypes(c.accepted...), time.Now())
		if granted := err == nil; granted != c.granted || !granted && access.ReasonOf(err) != access.WrongType {
			t.Errorf("Verify of typ %v with types %q = %v, want granted: %t", c.typ, c.accepted, err, c.granted)
		}
	}
}

// Entra publishes keys for the tokens of one tenant beside keys for all tenants, by a member
// issuer. Keys of other tenants are left out, as Microsoft requires.
func TestKeysOfOtherTenants(t *testing.T) {
	const ours, personal = "6e74172b-be56-4843-9ff4-e66a39bb12e3", "9188040d-6c67-4c5b-b112-36a304b66dad"
	signer := testpki.NewSigner("RS256", "k1")
	for _, c := range []struct {
		issuer any
		used   bool
	}{
		{nil, true},
		{null, true},
		{"https://login.microsoftonline.com/{tenantid}/v2.0", true},
		{"https://login.microsoftonline.com/" + ours + "/v2.0", true},
		{"https://login.microsoftonline.com/" + strings.ToUpper(ours) + "/v2.0", true},
		{"https://login.microsoftonline.com/" + personal + "/v2.0", false},
		{"https://login.microsoftonline.com/common/v2.0", false},
		{5, false},
	} {
		document := gatetest.KeySet(signer.JWK(M{"issuer": c.issuer}), testpki.NewSigner("ES256", "other").JWK())
		entra := gatetest.AuthorizationServer(gatetest.Algorithms(config.RS256, config.ES256), func(s *config.AuthorizationServer) {
			s.Profile, s.Issuer = config.ProfileEntra, "https://login.microsoftonline.com/"+ours+"/v2.0"
		})
		if got := newSource(t, localKeySet(document), entra).Latest().hasKeyID("k1"); got != c.used {
			t.Errorf("key with issuer %v used: %t, want %t", c.issuer, got, c.used)
		}
		if !newSource(t, localKeySet(document), gatetest.AuthorizationServer(gatetest.Algorithms(config.RS256, config.ES256))).Latest().hasKeyID("k1") {
			t.Errorf("key with issuer %v left out for a server without tenants", c.issuer)
		}
	}
}

// Keys whose private part can be computed are not used: CVE-2017-15361 and the exponent 3.
func TestWeakRSAKeys(t *testing.T) {
	good := testpki.NewSigner("PS256", "x")
	if _, err := parse(gatetest.KeySet(good.JWK()), every, ""); err != nil {
		t.Errorf("parse = %v, want the good key", err)
	}
	if _, err := parse(gatetest.KeySet(good.JWK(M{"e": "Aw"})), every, ""); err == nil {
		t.Error("parse of a key with exponent 3 = nil, want an error")
	}
}

// Several keys with the same kid are tried, up to a bound.
func TestKeysWithOneID(t *testing.T) {
	signers := make([]*testpki.Signer, maxCandidates+1)
	for i := range signers {
		signers[i] = testpki.NewSigner("EdDSA", "same")
	}
	v := newSource(t, localKeySet(testpki.KeySet(append(signers, testpki.NewSigner("ES256", "same"))...)), gatetest.AuthorizationServer())
	for i, s := range signers {
		want := access.Granted
		if i >= maxCandidates {
			want = access.BadSignature
		}
		expect(t, v, s.Token(bound()), want)
	}
}

// Private members of a JWK are ignored.
func TestPrivateMembers(t *testing.T) {
	key, foreign := testpki.NewSigner("EdDSA", "k1"), testpki.NewSigner("EdDSA", "k1")
	_, fromFile := gatetest.KeyFile(t, gatetest.KeySet(key.JWK(M{"d": testpki.Segment(make([]byte, 32))})))
	v := newSource(t, nil, gatetest.AuthorizationServer(fromFile))
	expect(t, v, key.Token(bound()), access.Granted)
	expect(t, v, foreign.Token(bound()), access.BadSignature)
}

// x5c must contain the key and cannot replace it.
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
	}{"its own": {der(pair.Cert), 1}, "another's": {der(testpki.NewCA("another").Cert), 0}, "rubbish": {[]string{"AAAA"}, 0}} {
		got, err := parse(gatetest.KeySet(s.JWK(M{"x5c": c.x5c})), every, "")
		if (err == nil) != (c.keys == 1) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// The error of New says what stops the start.
func TestNewRefuses(t *testing.T) {
	_, fromGood := gatetest.KeyFile(t, testpki.KeySet(testpki.NewSigner("ES256", "k1")))
	brokenFile, fromBroken := gatetest.KeyFile(t, []byte("{}"))
	missing := t.TempDir() + "/missing"
	file := func(path string) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) { s.KeySet.File = config.Path(path) }
	}
	inline := func(text string) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) { s.KeySet.JWKS = text }
	}
	for _, c := range []struct {
		name  string
		edits []func(*config.AuthorizationServer)
		names string // part of the error; "" for success
	}{
		{"a file", []func(*config.AuthorizationServer){fromGood}, ""},
		{"no key set", nil, "no key set"},
		{"a missing file", []func(*config.AuthorizationServer){file(missing)}, missing},
		{"a file without keys", []func(*config.AuthorizationServer){fromBroken}, brokenFile},
		{"a folder", []func(*config.AuthorizationServer){file(t.TempDir())}, "directory"},
		{"inline keys", []func(*config.AuthorizationServer){inline(string(testpki.KeySet(testpki.NewSigner("ES256", "k1"))))}, ""},
		{"inline without keys", []func(*config.AuthorizationServer){inline(`{"keys":[{}]}`)}, "in the configuration"},
		{"refresh zero", []func(*config.AuthorizationServer){fromGood, func(s *config.AuthorizationServer) { s.KeySet.Refresh = 0 }}, "refresh"},
		{"cool_down zero", []func(*config.AuthorizationServer){fromGood, func(s *config.AuthorizationServer) { s.KeySet.CoolDown = 0 }}, "cool_down"},
		{"max_stale zero", []func(*config.AuthorizationServer){fromGood, func(s *config.AuthorizationServer) { s.KeySet.MaxStale = 0 }}, "max_stale"},
	} {
		_, err := New(gatetest.AuthorizationServer(c.edits...), options(nil))
		if c.names == "" && err != nil || c.names != "" && (err == nil || !strings.Contains(fmt.Sprint(err), c.names)) {
			t.Errorf("%s: got %v, want an error that names %q", c.name, err, c.names)
		}
	}
	if _, err := New(gatetest.AuthorizationServer(), options(localKeySet([]byte("{}")))); err == nil {
		t.Error("New for our own issuer without keys = nil, want an error")
	}
}
