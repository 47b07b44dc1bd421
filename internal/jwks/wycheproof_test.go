package jwks

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/c2sp/wycheproof"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A tally counts vectors: valid vectors as "accepted", vectors of a [class] by its name, and
// correctly refused vectors by the reason.
type tally map[string]int

// wycheproofFiles are the files with JWS, and the files with signatures by an algorithm of JWS or
// a curve of JWK whose keys are JWKs. The other files with JWKs are left out: encryption
// (json_web_encryption, RSA-OAEP), key agreement, signing, and hashes that fit no configurable
// algorithm.
var wycheproofFiles = []struct {
	name      string
	algorithm config.Algorithm // "" for JWS
	want      tally
}{
	{"json_web_signature", "", tally{
		"accepted": 32, "malformed_token": 14, "unsupported_algorithm": 5, "unknown_key": 7, "bad_signature": 295,
		"malformed_token, no usable key": 22, "unsupported_algorithm, no usable key": 8, "unknown_key, no usable key": 4,
		"symmetric": 8, "not base64url": 2, "key for ES521": 2, "PS384 by a key for PS256": 2,
	}},
	{"json_web_key", "", tally{
		"accepted": 1, "unsupported_algorithm": 1,
		"unsupported_algorithm, no usable key": 10, "unknown_key, no usable key": 10,
		"symmetric": 4,
	}},
	{"json_web_crypto", "", tally{
		"accepted": 2, "malformed_token": 14, "unsupported_algorithm": 2, "unknown_key": 2, "bad_signature": 9,
		"malformed_token, no usable key": 42, "unsupported_algorithm, no usable key": 7, "unknown_key, no usable key": 1,
		"symmetric": 2, "encrypted": 2,
	}},
	{"ecdsa_secp256r1_sha256_p1363", config.ES256, tally{"accepted": 169, "bad_signature": 83, "no JWK": 10}},
	{"ecdsa_secp384r1_sha384_p1363", config.ES384, tally{"accepted": 189, "bad_signature": 81, "no JWK": 10}},
	{"ecdsa_secp521r1_sha512_p1363", config.ES512, tally{"accepted": 227, "bad_signature": 81, "no JWK": 10}},
	{"ecdsa_secp256k1_sha256_p1363", "ES256K", tally{"secp256k1": 163, "unsupported_algorithm, no usable key": 79, "no JWK": 10}},
	{"ed25519", config.EdDSA, tally{"accepted": 88, "bad_signature": 63}},
	{"ed448", config.EdDSA, tally{"Ed448": 17, "unknown_key, no usable key": 70}},
	{"rsa_pss_2048_sha256_mgf1_32", config.PS256, tally{"accepted": 63, "bad_signature": 45}},
	{"rsa_pss_3072_sha256_mgf1_32", config.PS256, tally{"accepted": 63, "bad_signature": 45}},
	{"rsa_pss_4096_sha256_mgf1_32", config.PS256, tally{"accepted": 63, "bad_signature": 45}},
	{"rsa_pss_2048_sha384_mgf1_48", config.PS384, tally{"accepted": 95, "bad_signature": 46}},
	{"rsa_pss_4096_sha384_mgf1_48", config.PS384, tally{"accepted": 95, "bad_signature": 46}},
	{"rsa_pss_4096_sha512_mgf1_64", config.PS512, tally{"accepted": 132, "bad_signature": 47}},
	{"rsa_signature_2048_sha256", config.RS256, tally{"accepted": 7, "small exponent": 2, "bad_signature": 250}},
	{"rsa_signature_3072_sha256", config.RS256, tally{"accepted": 7, "small exponent": 1, "bad_signature": 251}},
	{"rsa_signature_4096_sha256", config.RS256, tally{"accepted": 7, "bad_signature": 251}},
	{"rsa_signature_2048_sha384", config.RS384, tally{"accepted": 7, "bad_signature": 251}},
	{"rsa_signature_3072_sha384", config.RS384, tally{"accepted": 7, "bad_signature": 252}},
	{"rsa_signature_4096_sha384", config.RS384, tally{"accepted": 7, "bad_signature": 252}},
	{"rsa_signature_2048_sha512", config.RS512, tally{"accepted": 7, "small exponent": 1, "bad_signature": 251}},
	{"rsa_signature_3072_sha512", config.RS512, tally{"accepted": 7, "small exponent": 1, "bad_signature": 252}},
	{"rsa_signature_4096_sha512", config.RS512, tally{"accepted": 7, "bad_signature": 252}},
	{"rsa_signature_8192_sha256", config.RS256, tally{"accepted": 7, "bad_signature": 251}},
}

// A wycheproofFile is the part of a file that the test reads.
type wycheproofFile struct {
	NumberOfTests int
	TestGroups    []struct {
		Public, Private      json.RawMessage // for JWS: a JWK or JWK Set; a symmetric key is private
		PublicKeyJWK, KeyJWK json.RawMessage // for signatures: the public JWK; both empty if the key has another form
		Tests                []vector
	}
}

// A vector is one case.
type vector struct {
	ID              int `json:"tcId"`
	Comment, Result string
	JWS, JWE        json.RawMessage // a string, or an object in JSON serialization
	Msg, Sig        string          // in hex, instead of a JWS

	file      string
	key       jwk    // first key of the group
	algorithm string // alg of the header
}

type jwk struct{ Kty, Crv, Alg, E string }

// A class has vectors with the same outcome, which differs from Wycheproof's.
type class struct {
	name, outcome string
	holds         func(*vector) bool
}

// deviations are the valid vectors that are refused, and why.
var deviations = []class{
	// Tokens are signed, RFC 9068 section 2.1, and a JWE has too many segments.
	{"encrypted", "malformed_token, no usable key", func(v *vector) bool { return v.JWE != nil }},
	// 372 and 373 have a "?", so they must be refused, RFC 4648 section 3.3. 367 and 370 lack it:
	// they equal 357, which is valid, and are labelled invalid.
	{"not base64url", "malformed_token, no usable key", func(v *vector) bool {
		return v.file == "json_web_signature" && (v.ID == 372 || v.ID == 373)
	}},
	// A verifier with a symmetric key can sign with it. Symmetric keys are never used.
	{"symmetric", "unsupported_algorithm, no usable key", func(v *vector) bool { return v.key.Kty == "oct" }},
	// These curves have no [config.Algorithm]; EdDSA means Ed25519.
	{"secp256k1", "unsupported_algorithm, no usable key", func(v *vector) bool { return v.key.Crv == "secp256k1" }},
	{"Ed448", "unknown_key, no usable key", func(v *vector) bool { return v.key.Crv == "Ed448" }},
	// ES521 does not exist; ES512 is probably meant.
	{"key for ES521", "unknown_key, no usable key", func(v *vector) bool { return v.key.Alg == "ES521" }},
	// Weak by our own rules: "Aw" is 3.
	{"small exponent", "unknown_key, no usable key", func(v *vector) bool { return v.key.E == "Aw" }},
	// A key with alg is used with that algorithm alone, RFC 8725 section 3.1.
	{"PS384 by a key for PS256", "unknown_key", func(v *vector) bool {
		return v.key.Alg == "PS256" && v.algorithm == "PS384"
	}},
}

// TestWycheproof runs every vector. No vector may be left over or have another outcome than
// listed above.
func TestWycheproof(t *testing.T) {
	for _, f := range wycheproofFiles {
		t.Run(f.name, func(t *testing.T) {
			document, err := fs.ReadFile(wycheproof.TestVectors, f.name+"_test.json")
			if err != nil {
				t.Fatal(err)
			}
			var file wycheproofFile
			if err := json.Unmarshal(document, &file); err != nil {
				t.Fatal(err)
			}
			got, sum := tally{}, 0
			for _, g := range file.TestGroups {
				sum += len(g.Tests)
				keys := cmp.Or(string(g.Public), string(g.PublicKeyJWK), string(g.KeyJWK), string(g.Private))
				if keys == "" {
					got["no JWK"] += len(g.Tests)
					continue
				}
				s, first, usable := wycheproofSource(t, []byte(keys))
				for _, v := range g.Tests {
					v.file, v.key = f.name, first
					outcome := v.judge(t, s, f.algorithm).String()
					if !usable {
						outcome += ", no usable key"
					}
					got[v.classify(t, outcome)]++
				}
			}
			t.Logf("%d cases: %v", sum, got)
			if !maps.Equal(got, f.want) || sum != file.NumberOfTests {
				t.Errorf("want %d cases: %v", file.NumberOfTests, f.want)
			}
		})
	}
}

// classify returns the tally entry for v.
func (v *vector) classify(t *testing.T, outcome string) string {
	t.Helper()
	switch valid := v.Result == "valid"; { // "acceptable" is not valid: such a vector lacks a NULL that PKCS #1 requires
	case valid && outcome == "granted":
		return "accepted"
	case !valid && !strings.HasPrefix(outcome, "granted"):
		return outcome
	case valid:
		for _, c := range deviations {
			if c.outcome == outcome && c.holds(v) {
				return c.name
			}
		}
	}
	t.Errorf("vector %d (%s) is %s, got %s", v.ID, v.Comment, v.Result, outcome)
	return "unexpected"
}

// noClaims is the payload "{}". The payload of no vector is an object, which Parse requires.
// Parse gets this payload, and then the signature is verified over the vector's payload.
const noClaims = "e30"

// judge returns the reason that s gives for v.
func (v *vector) judge(t *testing.T, s *Source, algorithm config.Algorithm) access.Reason {
	t.Helper()
	raw, signed, other := v.token(t, algorithm)
	jws, err := Parse(raw)
	if errors.Is(err, errNoObject) { // the payload is no JSON object; an error of the header occurs again
		parts := strings.Split(raw, ".")
		signed, other = parts[0]+"."+parts[1], true
		jws, err = Parse(parts[0] + "." + noClaims + "." + parts[2])
	}
	if err != nil {
		return access.ReasonOf(err)
	}
	if other {
		jws.signed = signed
	}
	v.algorithm = jws.Algorithm
	types := []string{config.NoType}
	if jws.NamesType {
		types = MediaTypes(jws.Type)
	}
	if _, _, err = s.Verify(t.Context(), jws, types, time.Now()); err != nil {
		return access.ReasonOf(err)
	}
	return access.Granted
}

// token returns v's token or, for a vector without a token, a token with v's signature and the
// text that the signature covers.
func (v *vector) token(t *testing.T, algorithm config.Algorithm) (raw, signed string, other bool) {
	t.Helper()
	if token := cmp.Or(string(v.JWS), string(v.JWE)); token != "" {
		if json.Unmarshal([]byte(token), &raw) != nil {
			raw = token
		}
		return raw, "", false
	}
	message, err := hex.DecodeString(v.Msg)
	signature, err2 := hex.DecodeString(v.Sig)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	header := gatetest.JSON(M{"alg": algorithm, "kid": "none"}) // as in all these keys
	return testpki.Segment(header) + "." + noClaims + "." + testpki.Segment(signature), string(message), true
}

// wycheproofSource returns a source of a JWK or JWK Set, its first key, and whether a key is
// usable. If not, the source has another key, which signed nothing.
func wycheproofSource(t *testing.T, document json.RawMessage) (s *Source, first jwk, usable bool) {
	t.Helper()
	var jwks struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &jwks); err != nil {
		t.Fatal(err)
	}
	if jwks.Keys == nil {
		jwks.Keys = []json.RawMessage{document}
	}
	if err := json.Unmarshal(jwks.Keys[0], &first); err != nil {
		t.Fatal(err)
	}
	s, err := New(gatetest.AuthorizationServer(gatetest.Algorithms(every...)), options(localKeySet(gatetest.JSON(jwks))))
	if usable = !errors.Is(err, errNoKeys); !usable {
		jwks.Keys = append(jwks.Keys, gatetest.JSON(testpki.NewSigner("ES256", "bystander").JWK()))
		s, err = New(gatetest.AuthorizationServer(gatetest.Algorithms(every...)), options(localKeySet(gatetest.JSON(jwks))))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, first, usable
}
