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
	"github.com/tallygate/tallygate/internal/testpki"
)

// A tally counts vectors: as "accepted" the valid ones, by its name those of a [class],
// and by the reason those that are refused as they should be.
type tally map[string]int

// wycheproofFiles are the files of JWS, and those of signatures by an algorithm of JWS
// or with a curve of JWK whose keys are JWKs. Left out are the others with JWKs: those of
// encryption (json_web_encryption, RSA-OAEP), of key agreement, of the making of
// signatures, and of hashes that fit no algorithm which can be configured.
var wycheproofFiles = []struct {
	name      string
	algorithm config.Algorithm // "" for JWS
	want      tally
}{
	{"json_web_signature", "", tally{
		"accepted": 24, "malformed_token": 14, "unsupported_algorithm": 7, "unknown_key": 5, "bad_signature": 295,
		"malformed_token, no usable key": 22, "unsupported_algorithm, no usable key": 8, "unknown_key, no usable key": 4,
		"symmetric": 8, "not base64url": 2, "RS384, RS512": 8, "key for ES521": 2, "PS384 by a key for PS256": 2,
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
	{"rsa_signature_8192_sha256", config.RS256, tally{"accepted": 7, "bad_signature": 251}},
}

// A wycheproofFile is what a file holds, as far as it counts here.
type wycheproofFile struct {
	NumberOfTests int
	TestGroups    []struct {
		Public, Private      json.RawMessage // of JWS: a JWK or JWK Set; a symmetric key is private
		PublicKeyJWK, KeyJWK json.RawMessage // of signatures: the public JWK; neither where the key is in other forms
		Tests                []vector
	}
}

// A vector is one case.
type vector struct {
	ID              int `json:"tcId"`
	Comment, Result string
	JWS, JWE        json.RawMessage // a string, or an object in JSON serialization
	Msg, Sig        string          // in hex, in place of a JWS

	file      string
	key       jwk    // the first of its group
	algorithm string // alg of the header
}

type jwk struct{ Kty, Crv, Alg, E string }

// A class is of vectors that all have one outcome, which is not what Wycheproof wants.
type class struct {
	name, outcome string
	holds         func(*vector) bool
}

// deviations are the valid vectors that are refused, and why they should be.
var deviations = []class{
	// A token is signed, RFC 9068 section 2.1, and a JWE has too many segments.
	{"encrypted", "malformed_token, no usable key", func(v *vector) bool { return v.JWE != nil }},
	// A "?" stands in 372 and 373, so they must be refused, RFC 4648 section 3.3. It is
	// missing from 367 and 370: these equal 357, which is valid, and are labelled invalid.
	{"not base64url", "malformed_token, no usable key", func(v *vector) bool {
		return v.file == "json_web_signature" && (v.ID == 372 || v.ID == 373)
	}},
	// Who can verify by a symmetric key can sign by it. None is ever taken.
	{"symmetric", "unsupported_algorithm, no usable key", func(v *vector) bool { return v.key.Kty == "oct" }},
	// No [config.Algorithm] is for these, or for the curves below: EdDSA means Ed25519.
	{"RS384, RS512", "unsupported_algorithm, no usable key", func(v *vector) bool {
		return v.algorithm == "RS384" || v.algorithm == "RS512"
	}},
	{"secp256k1", "unsupported_algorithm, no usable key", func(v *vector) bool { return v.key.Crv == "secp256k1" }},
	{"Ed448", "unknown_key, no usable key", func(v *vector) bool { return v.key.Crv == "Ed448" }},
	// The key is for an algorithm that there is not; ES512 must be meant.
	{"key for ES521", "unknown_key, no usable key", func(v *vector) bool { return v.key.Alg == "ES521" }},
	// Weak by our own rules: "Aw" is 3.
	{"small exponent", "unknown_key, no usable key", func(v *vector) bool { return v.key.E == "Aw" }},
	// A key that names its algorithm is used with no other, RFC 8725 section 3.1.
	{"PS384 by a key for PS256", "unknown_key", func(v *vector) bool {
		return v.key.Alg == "PS256" && v.algorithm == "PS384"
	}},
}

// TestWycheproof holds the verification to every case that others have thought of. No
// case may be left over, or come out otherwise than told above.
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

// classify returns what to count v under.
func (v *vector) classify(t *testing.T, outcome string) string {
	t.Helper()
	switch valid := v.Result == "valid"; { // "acceptable" is not: it lacks a NULL that PKCS #1 wants
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
	t.Errorf("%d (%s) is %s, and the outcome is %s", v.ID, v.Comment, v.Result, outcome)
	return "unexpected"
}

// noClaims is the payload "{}". No vector has one that is an object, without which Parse
// refuses a token. It is shown this one, and then the signature is verified of what the
// vector's is of.
const noClaims = "e30"

// judge returns what s makes of v.
func (v *vector) judge(t *testing.T, s *Source, algorithm config.Algorithm) access.Reason {
	t.Helper()
	raw, signed, other := v.token(t, algorithm)
	jws, err := Parse(raw)
	if errors.Is(err, errNoObject) { // the payload; or the header, and then it is so again
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
	if _, _, err = s.Verify(t.Context(), jws, MediaTypes(jws.Type), time.Now()); err != nil {
		return access.ReasonOf(err)
	}
	return access.Granted
}

// token returns v's token; where v has none, one with v's signature, and the other text
// that this is of.
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
	header := encode(M{"alg": algorithm, "kid": "none"}) // as all those keys have it
	return testpki.Segment(header) + "." + noClaims + "." + testpki.Segment(signature), string(message), true
}

// wycheproofSource returns a source of a JWK or JWK Set, its first key, and whether one
// is usable. If none is, the source has another, by which nothing is signed.
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
	s, err := New(settings(algorithms(every...)), options(localKeySet(encode(jwks))))
	if usable = !errors.Is(err, errNoKeys); !usable {
		jwks.Keys = append(jwks.Keys, encode(testpki.NewSigner("ES256", "bystander").JWK()))
		s, err = New(settings(algorithms(every...)), options(localKeySet(encode(jwks))))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, first, usable
}
