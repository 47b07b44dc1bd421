package dpop

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

type M = testpki.M

const (
	authority = "api.example.test"
	path      = "/accounts/7"
	uri       = "https://" + authority + path
	token     = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
)

func settings(edits ...func(*config.DPoP)) config.DPoP {
	s := config.Default().DPoP
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

func required(s *config.DPoP) { s.Nonce = config.NonceRequired }

func request(proofs ...string) *Request {
	return &Request{Proofs: proofs, Method: "GET", Authority: authority, Path: path, Token: sha256.Sum256([]byte(token))}
}

// claims for the request above.
func good(edits ...M) M { return testpki.ProofClaims("GET", uri, token, edits...) }

// The proof of RFC 9449 section 7.1 is accepted at its time, with the token of that section and the
// thumbprint of section 6.1.
func TestRFC9449Example(t *testing.T) {
	const proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik" +
		"VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR" +
		"nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE" +
		"QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj" +
		"oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z" +
		"WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF" +
		"c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E" +
		"OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	at := time.Unix(1562262618, 0)
	c := New(settings(), nil, at)
	r := &Request{Proofs: []string{proof}, Method: "GET", Authority: "resource.example.org", Path: "/protectedresource", Token: sha256.Sum256([]byte(token))}
	got, err := c.Check(r, at)
	if want := "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"; err != nil || got.Key.String() != want {
		t.Fatalf("Check = %s, %v, want %s", got.Key, err, want)
	}
	for name, edit := range map[string]func(*Request, *time.Time){
		"another method":            func(r *Request, _ *time.Time) { r.Method = "POST" },
		"another path":              func(r *Request, _ *time.Time) { r.Path = "/other" },
		"another host":              func(r *Request, _ *time.Time) { r.Authority = "server.example.com" },
		"another port":              func(r *Request, _ *time.Time) { r.Authority += ":8443" },
		"another token":             func(r *Request, _ *time.Time) { r.Token[0] ^= 1 },
		"61 seconds later":          func(_ *Request, at *time.Time) { *at = at.Add(61 * time.Second) },
		"6 seconds earlier":         func(_ *Request, at *time.Time) { *at = at.Add(-6 * time.Second) },
		"no proof":                  func(r *Request, _ *time.Time) { r.Proofs = nil },
		"two headers":               func(r *Request, _ *time.Time) { r.Proofs = append(r.Proofs, proof) },
		"two proofs in one header":  func(r *Request, _ *time.Time) { r.Proofs[0] += "," + proof },
		"the proof of section 5":    func(r *Request, _ *time.Time) { r.Proofs[0] = rfcTokenProof },
		"another signature":         func(r *Request, _ *time.Time) { r.Proofs[0] = proof[:len(proof)-86] + strings.Repeat("A", 86) },
		"a space after the proof":   func(r *Request, _ *time.Time) { r.Proofs[0] += " " },
		"padding after the proof":   func(r *Request, _ *time.Time) { r.Proofs[0] += "=" },
		"the proof without its end": func(r *Request, _ *time.Time) { r.Proofs[0] = proof[:len(proof)-1] },
	} {
		changed, later := *r, at
		changed.Proofs = []string{proof}
		edit(&changed, &later)
		if got, err := c.Check(&changed, later); !errors.Is(err, ErrInvalid) || got.Key != (access.Thumbprint{}) {
			t.Errorf("%s: Check = %v, %v, want zero and ErrInvalid", name, got.Key, err)
		}
	}
}

// rfcTokenProof is the proof of RFC 9449 section 5, for a token request.
const rfcTokenProof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19." +
	"eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ." +
	"2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"

// RFC 9449 section 4.3: each check of a proof alone, with keys of every kind.
func TestCheck(t *testing.T) {
	c := New(settings(func(s *config.DPoP) { s.Algorithms = append(s.Algorithms, config.ES384, config.ES512, config.RS256) }), nil, time.Now())
	es256, eddsa, ps256 := testpki.NewSigner("ES256", ""), testpki.NewSigner("EdDSA", ""), testpki.NewSigner("PS256", "")
	jwk := func(edits ...M) M { return es256.JWK(append([]M{{"kid": nil, "alg": nil, "use": nil}}, edits...)...) }
	rsaJWK := func(n *big.Int, e string) M {
		return M{"jwk": M{"kty": "RSA", "n": testpki.Segment(n.Bytes()), "e": e}}
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p256, _ := es256.Key.Public().(*ecdsa.PublicKey)
	hs256 := M{"alg": "HS256", "jwk": M{"kty": "oct", "k": "AAAA"}}
	now := time.Now()
	for _, tt := range []struct {
		name string
		raw  string
		want error
	}{
		{"ES256", es256.Proof(good()), nil},
		{"EdDSA", eddsa.Proof(good()), nil},
		{"Ed25519, RFC 9864", eddsa.Proof(good(), M{"alg": "Ed25519"}), nil},
		{"PS256", ps256.Proof(good()), nil},
		{"ES384", testpki.NewSigner("ES384", "").Proof(good()), nil},
		{"ES512", testpki.NewSigner("ES512", "").Proof(good()), nil},
		{"RS256", testpki.NewSigner("RS256", "").Proof(good()), nil},
		{"kid and unknown members", es256.Proof(good(M{"extra": 1}), M{"kid": "k", "extra": M{}}), nil},
		{"jwk with alg, use and kid", es256.Proof(good(), M{"jwk": jwk(M{"alg": "ES256", "use": "sig", "kid": "k"})}), nil},
		{"htu with query and fragment", es256.Proof(good(M{"htu": uri + "?a=b#c"})), nil},
		{"htu with port 443", es256.Proof(good(M{"htu": "HTTPS://API.Example.TEST:443" + path})), nil},
		{"iat with a fraction", es256.Proof(good(M{"iat": float64(now.UnixMilli()) / 1000})), nil},

		{"typ JWT", es256.Proof(good(), M{"typ": "JWT"}), ErrInvalid},
		{"typ at+jwt", es256.Proof(good(), M{"typ": "at+jwt"}), ErrInvalid},
		{"no typ", es256.Proof(good(), M{"typ": nil}), ErrInvalid},
		{"alg none", es256.Proof(good(), M{"alg": "none"}), ErrInvalid},
		{"alg HS256 with a key in the clear", es256.Proof(good(), hs256), ErrInvalid},
		{"an algorithm that is not configured", testpki.NewSigner("PS384", "").Proof(good()), ErrInvalid},
		{"alg of another curve", es256.Proof(good(), M{"alg": "ES384"}), ErrInvalid},
		{"alg of another kind of key", es256.Proof(good(), M{"alg": "PS256"}), ErrInvalid},
		{"no jwk", es256.Proof(good(), M{"jwk": nil}), ErrInvalid},
		{"jwk as text", es256.Proof(good(), M{"jwk": "key"}), ErrInvalid},
		{"another key", es256.Proof(good(), M{"jwk": testpki.NewSigner("ES256", "").JWK()}), ErrInvalid},
		{"crit", es256.Proof(good(), M{"crit": []string{"x"}}), ErrInvalid},
		{"b64", es256.Proof(good(), M{"b64": false}), ErrInvalid},

		{"private member d", es256.Proof(good(), M{"jwk": jwk(M{"d": "AAAA"})}), ErrInvalid},
		{"private member d, null", es256.Sign([]byte(`{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","d":null}}`), []byte("{}")), ErrInvalid},
		{"private member p", ps256.Proof(good(), M{"jwk": ps256.JWK(M{"p": "AAAA"})}), ErrInvalid},
		{"private member oth", ps256.Proof(good(), M{"jwk": ps256.JWK(M{"oth": []M{}})}), ErrInvalid},
		{"symmetric member k", es256.Proof(good(), M{"jwk": jwk(M{"k": "AAAA"})}), ErrInvalid},
		{"RSA of 1024 bits", (&testpki.Signer{Key: short, Algorithm: "PS256"}).Proof(good()), ErrInvalid},
		{"RSA of 16384 bits", ps256.Proof(good(), rsaJWK(new(big.Int).SetBit(big.NewInt(1), 16383, 1), "AQAB")), ErrInvalid},
		{"RSA with exponent 3", ps256.Proof(good(), rsaJWK(new(big.Int).SetBit(big.NewInt(1), 2047, 1), "Aw")), ErrInvalid},
		{"RSA with an even modulus", ps256.Proof(good(), rsaJWK(new(big.Int).SetBit(new(big.Int), 2047, 1), "AQAB")), ErrInvalid},
		{"RSA with an exponent of 5 bytes", ps256.Proof(good(), rsaJWK(new(big.Int).SetBit(big.NewInt(1), 2047, 1), "AQAAAAE")), ErrInvalid},
		{"RSA modulus with a zero before it", ps256.Proof(good(), M{"jwk": ps256.JWK(M{"n": testpki.Segment(append([]byte{0}, ps256.Key.Public().(*rsa.PublicKey).N.Bytes()...))})}), ErrInvalid},
		{"Ed25519 of low order", eddsa.Proof(good(), M{"jwk": M{"kty": "OKP", "crv": "Ed25519", "x": testpki.Segment(make([]byte, 32))}}), ErrInvalid},
		{"a point off the curve", es256.Proof(good(), M{"jwk": jwk(M{"x": testpki.Segment(make([]byte, 32))})}), ErrInvalid},
		{"x with padding", es256.Proof(good(), M{"jwk": jwk(M{"x": jwk()["x"].(string) + "="})}), ErrInvalid},
		{"x with a line break", es256.Proof(good(), M{"jwk": jwk(M{"x": jwk()["x"].(string) + "\n"})}), ErrInvalid},
		{"x of 33 bytes", es256.Proof(good(), M{"jwk": jwk(M{"x": testpki.Segment(make([]byte, 33))})}), ErrInvalid},
		{"secp256k1", es256.Proof(good(), M{"jwk": jwk(M{"crv": "secp256k1"})}), ErrInvalid},
		{"curve " + p256.Params().Name + " in lower case", es256.Proof(good(), M{"jwk": jwk(M{"crv": "p-256"})}), ErrInvalid},

		{"no jti", es256.Proof(good(M{"jti": nil})), ErrInvalid},
		{"empty jti", es256.Proof(good(M{"jti": ""})), ErrInvalid},
		{"jti as number", es256.Proof(good(M{"jti": 7})), ErrInvalid},
		{"no htm", es256.Proof(good(M{"htm": nil})), ErrInvalid},
		{"htm in lower case", es256.Proof(good(M{"htm": "get"})), ErrInvalid},
		{"htm of another method", es256.Proof(good(M{"htm": "POST"})), ErrInvalid},
		{"no htu", es256.Proof(good(M{"htu": nil})), ErrInvalid},
		{"htu with http", es256.Proof(good(M{"htu": "http://" + authority + path})), ErrInvalid},
		{"htu of another path", es256.Proof(good(M{"htu": uri + "/"})), ErrInvalid},
		{"htu of the path alone", es256.Proof(good(M{"htu": path})), ErrInvalid},
		{"htu with user information", es256.Proof(good(M{"htu": "https://me@" + authority + path})), ErrInvalid},
		{"no iat", es256.Proof(good(M{"iat": nil})), ErrInvalid},
		{"iat as text", es256.Proof(good(M{"iat": "1562262616"})), ErrInvalid},
		{"iat beyond all time", es256.Proof(good(M{"iat": 1e300})), ErrInvalid},
		{"iat of a minute ago", es256.Proof(good(M{"iat": now.Add(-62 * time.Second).Unix()})), ErrInvalid},
		{"iat ahead", es256.Proof(good(M{"iat": now.Add(8 * time.Second).Unix()})), ErrInvalid},
		{"no ath", es256.Proof(good(M{"ath": nil})), ErrInvalid},
		{"ath of another token", es256.Proof(testpki.ProofClaims("GET", uri, "other")), ErrInvalid},
		{"ath with padding", es256.Proof(good(M{"ath": good()["ath"].(string) + "="})), ErrInvalid},
		{"jti twice", es256.Sign([]byte(es256Header(t, es256)), []byte(`{"jti":"a","jti":"b"}`)), ErrInvalid},
		{"payload as list", es256.Sign([]byte(es256Header(t, es256)), []byte(`[]`)), ErrInvalid},
		{"8 KiB", es256.Proof(good(M{"extra": strings.Repeat("x", 8<<10)})), ErrInvalid},
		{"empty", "", ErrInvalid},
	} {
		got, err := c.Check(request(tt.raw), now)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: Check returned %v, want %v", tt.name, err, tt.want)
		}
		if (got == Proof{}) != (tt.want != nil) {
			t.Errorf("%s: Check = %+v with %v, want a proof only without an error", tt.name, got, err)
		}
	}
}

func es256Header(t *testing.T, s *testpki.Signer) string {
	t.Helper()
	segment, _, _ := strings.Cut(s.Proof(M{}), ".")
	header, err := decode(segment)
	if err != nil {
		t.Fatal(err)
	}
	return string(header)
}

// T-CNF-11: the client chooses the key and need not sign with it, so a key must not cost much time.
func TestRSABounds(t *testing.T) {
	for _, tt := range []struct {
		bits int
		e    int64
		want error
	}{
		{2048, 65537, nil}, {4096, 65537, nil}, {4104, 65537, errLong}, {8192, 65537, errLong},
		{2048, 65539, errExponent}, {2048, 1<<31 - 1, errExponent}, {4096, 1<<31 - 1, errExponent},
	} {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(tt.bits)))
		if err != nil {
			t.Fatal(err)
		}
		n.SetBit(n, tt.bits-1, 1).SetBit(n, 0, 1)
		document := `{"kty":"RSA","n":"` + testpki.Segment(n.Bytes()) + `","e":"` + testpki.Segment(big.NewInt(tt.e).Bytes()) + `"}`
		if _, _, err := parseKey([]byte(document)); !errors.Is(err, tt.want) {
			t.Errorf("%d bits and exponent %d: %v, want %v", tt.bits, tt.e, err, tt.want)
		}
	}
}

// The thumbprint is RFC 7638's, for each kind of key: computed apart from the product.
func TestThumbprint(t *testing.T) {
	c := New(settings(func(s *config.DPoP) { s.Algorithms = append(s.Algorithms, config.ES384, config.ES512) }), nil, time.Now())
	for _, algorithm := range []string{"ES256", "ES384", "ES512", "EdDSA", "PS256"} {
		s := testpki.NewSigner(algorithm, "")
		got, err := c.Check(request(s.Proof(good())), time.Now())
		if err != nil || got.Key.String() != s.KeyThumbprint() {
			t.Errorf("%s: Check = %s, %v, want %s", algorithm, got.Key, err, s.KeyThumbprint())
		}
	}
}

func TestNonce(t *testing.T) {
	now := time.Now()
	c, s := New(settings(required), nil, now), testpki.NewSigner("ES256", "")
	check := func(nonce any, at time.Time) (Proof, error) {
		t.Helper()
		return c.Check(request(s.Proof(good(M{"nonce": nonce, "iat": at.Unix()}))), at)
	}
	nonce := c.Nonce(Proof{}, now)
	p, err := check(nonce, now)
	if err != nil {
		t.Fatalf("Check with the nonce returned %v, want nil", err)
	}
	if got := c.Nonce(p, now); got != "" {
		t.Errorf("Nonce after a new nonce = %q, want none", got)
	}
	later := now.Add(nonceLifetime/2 + time.Second)
	if p, err = check(nonce, later); err != nil || c.Nonce(p, later) == "" {
		t.Errorf("after half of its lifetime Check returned %v, want nil and another nonce", err)
	}
	next := New(settings(required), c, now)
	if _, err := next.Check(request(s.Proof(good(M{"nonce": nonce}))), now); err != nil {
		t.Errorf("after a reload Check returned %v, want nil", err)
	}
	other := New(settings(required), nil, now)
	changed := []byte(nonce)
	changed[0] ^= 1
	for name, refused := range map[string]any{
		"missing": nil, "empty": "", "a number": 7, "changed": string(changed), "cut": nonce[:31], "padded": nonce + "=",
		"of another process": other.Nonce(Proof{}, now),
	} {
		if p, err := check(refused, now); !errors.Is(err, ErrNonce) || p != (Proof{}) {
			t.Errorf("%s: Check returned %v, want ErrNonce", name, err)
		}
	}
	if _, err := check(nonce, now.Add(nonceLifetime)); !errors.Is(err, ErrNonce) {
		t.Errorf("after its lifetime Check returned %v, want ErrNonce", err)
	}
	if off := New(settings(), nil, now); off.Nonce(Proof{}, now) != "" {
		t.Error("Nonce without nonce: required is not empty, want none")
	}
}

// RFC 9449 section 4.3 and RFC 3986 section 6.2: one URI in several spellings, and others.
// The detail of a refusal goes to the log, and the client chooses the htu.
func TestLoggable(t *testing.T) {
	for uri, want := range map[string]string{
		"https://a.test/b?token=secret#c":    "https://a.test/b",
		"https://user:secret@a.test/b":       "https://…@a.test/b",
		"https://user:secret@a.test@b.test/": "https://…@b.test/",
		"user:secret@a.test":                 "…@a.test",
		"https://user:sec/ret@a.test/b":      "https://…@a.test/b",
		"@https://":                          "…@https://",
		"":                                   "",
	} {
		if got := loggable(uri); got != want {
			t.Errorf("loggable(%q) = %q, want %q", uri, got, want)
		}
	}
}

func TestSameURI(t *testing.T) {
	for _, tt := range []struct {
		htu, authority, path string
		want                 bool
	}{
		{"https://a.test/b", "a.test", "/b", true},
		{"https://a.test", "a.test", "/", true},
		{"https://a.test/", "A.Test:443", "/", true},
		{"HTTPS://A.TEST:443/b?c#d", "a.test", "/b", true},
		{"https://a.test:/b", "a.test", "/b", true},
		{"https://a.test:8443/b", "a.test:8443", "/b", true},
		{"https://[2001:DB8::1]/b", "[2001:db8::1]", "/b", true},
		{"https://a.test/%7eb/%c3%a4", "a.test", "/~b/%C3%A4", true},
		{"https://a.test/x/../b/./c", "a.test", "/b/c", true},
		{"https://a.test/b/..", "a.test", "/", true},
		{"https://a.test/../b", "a.test", "/b", true},
		{"https://a.test/.b", "a.test", "/.b", true},

		{"https://a.test/B", "a.test", "/b", false},
		{"https://a.test/b/", "a.test", "/b", false},
		{"https://a.test//b", "a.test", "/b", false},
		{"https://a.test/b%2fc", "a.test", "/b/c", false},
		{"https://a.test/b%", "a.test", "/b%", false},
		{"https://a.test/b%4", "a.test", "/b%4", false},
		{"https://a.test:80/b", "a.test", "/b", false},
		{"https://a.test:8443/b", "a.test", "/b", false},
		{"https://a.test.evil.test/b", "a.test", "/b", false},
		{"https://a.test@evil.test/b", "a.test", "/b", false},
		{"http://a.test/b", "a.test", "/b", false},
		{"//a.test/b", "a.test", "/b", false},
		{"https:/a.test/b", "a.test", "/b", false},
		{"https://a.test\\b", "a.test", "/b", false},
		{"https:///b", "", "/b", false},
		{"", "a.test", "/", false},
	} {
		if got := sameURI(tt.htu, tt.authority, tt.path); got != tt.want {
			t.Errorf("sameURI(%q, %q, %q) = %t, want %t", tt.htu, tt.authority, tt.path, got, tt.want)
		}
	}
}

// No input makes the checker panic or pass for another proof of the key. The first seed passes, the
// others do not.
func FuzzCheck(f *testing.F) {
	now := time.Unix(1800000000, 0)
	s := testpki.NewSigner("ES256", "")
	proof := s.Proof(good(M{"iat": now.Unix()}))
	c := New(settings(), nil, now)
	seeds := []string{
		proof, proof + ".", rfcTokenProof, "", ".", "..", "e30.e30.", strings.ToUpper(proof),
		s.Proof(good(M{"iat": now.Unix()}), M{"jwk": M{"kty": "RSA", "n": "AQAB", "e": "AQAB"}}),
		s.Proof(good(M{"iat": now.Unix(), "htu": "https://a.test/%zz/../.."})),
	}
	for i, seed := range seeds {
		if _, err := c.Check(request(seed), now); (err == nil) != (i == 0) {
			f.Fatalf("seed %d: Check returned %v, want nil for seed 0 alone", i, err)
		}
		f.Add(seed)
	}
	known, err := c.Check(request(proof), now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := c.Check(request(raw), now)
		// A proof that is signed with another key proves that key, not ours.
		if err == nil && p.Key.String() == s.KeyThumbprint() && p.id != known.id {
			t.Errorf("%q passes as a proof of a key that did not sign it, want ErrInvalid", raw)
		}
		if err != nil && p != (Proof{}) {
			t.Errorf("Check(%q) = %+v with %v, want zero", raw, p, err)
		}
	})
}

// The cost of a proof in addition to the token: parsing and a signature check.
func BenchmarkCheck(b *testing.B) {
	for _, algorithm := range []string{"ES256", "EdDSA", "PS256"} {
		b.Run(algorithm, func(b *testing.B) {
			c, r, now := New(settings(), nil, time.Now()), request(testpki.NewSigner(algorithm, "").Proof(good())), time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Check(r, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
