package validate

import (
	"context"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

var null = json.RawMessage("null") // a null member; a nil member is left out

// T-JWT-*, one line for each case: a change to a good token and the result.
func TestTokenEdits(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key, testpki.NewSigner("EdDSA", "k2"), testpki.NewSigner("EdDSA", "k3")), gatetest.AuthorizationServer())
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for _, c := range []struct {
		name   string
		header M
		claims M
		want   access.Reason
	}{
		{"nothing", nil, nil, access.Granted},

		// T-JWT-01, RFC 8725 section 3.1
		{"alg none", M{"alg": "none"}, nil, access.UnsupportedAlgorithm},
		{"alg None", M{"alg": "None"}, nil, access.UnsupportedAlgorithm},
		{"alg NONE", M{"alg": "NONE"}, nil, access.UnsupportedAlgorithm},
		{"alg nOnE", M{"alg": "nOnE"}, nil, access.UnsupportedAlgorithm},
		{"alg missing", M{"alg": nil}, nil, access.UnsupportedAlgorithm},
		{"alg null", M{"alg": null}, nil, access.UnsupportedAlgorithm},
		{"alg number", M{"alg": 256}, nil, access.UnsupportedAlgorithm},
		{"alg array", M{"alg": []string{"ES256"}}, nil, access.UnsupportedAlgorithm},
		{"alg empty", M{"alg": ""}, nil, access.UnsupportedAlgorithm},
		{"alg in lower case", M{"alg": "es256"}, nil, access.UnsupportedAlgorithm},
		{"alg with space", M{"alg": "ES256 "}, nil, access.UnsupportedAlgorithm},
		{"alg known but not listed", M{"alg": "RS256"}, nil, access.UnsupportedAlgorithm},
		{"alg HS256", M{"alg": "HS256"}, nil, access.UnsupportedAlgorithm},
		{"Alg beside no alg", M{"alg": nil, "Alg": "ES256"}, nil, access.UnsupportedAlgorithm},
		{"Alg beside alg", M{"ALG": "none"}, nil, access.Granted},
		{"alg of another type than the key", M{"alg": "EdDSA"}, nil, access.UnknownKey},

		// T-JWT-03, RFC 8725 section 3.10
		{"jwk", M{"jwk": testpki.NewSigner("ES256", "k1").JWK()}, nil, access.Granted},
		{"x5c", M{"x5c": []string{"AAAA"}, "x5t": "AAAA"}, nil, access.Granted},

		// RFC 7515 section 4.1.11, RFC 7797
		{"crit", M{"crit": []string{"exp"}, "exp": in(time.Hour)}, nil, access.MalformedToken},
		{"crit empty", M{"crit": []string{}}, nil, access.MalformedToken},
		{"crit null", M{"crit": null}, nil, access.MalformedToken},
		{"b64 false", M{"b64": false, "crit": []string{"b64"}}, nil, access.MalformedToken},
		{"b64 true, not critical", M{"b64": true}, nil, access.MalformedToken},

		// T-JWT-04
		{"kid unknown", M{"kid": "k9"}, nil, access.UnknownKey},
		{"kid a path", M{"kid": "../../etc/passwd"}, nil, access.UnknownKey},
		{"kid a query", M{"kid": "' OR 1=1"}, nil, access.UnknownKey},
		{"kid empty", M{"kid": ""}, nil, access.UnknownKey},
		{"kid in another case", M{"kid": "K1"}, nil, access.UnknownKey},
		{"kid long", M{"kid": strings.Repeat("k", 256)}, nil, access.UnknownKey},
		{"kid too long", M{"kid": strings.Repeat("k", 257)}, nil, access.MalformedToken},
		{"kid number", M{"kid": 1}, nil, access.MalformedToken},
		{"kid array", M{"kid": []string{"k1"}}, nil, access.MalformedToken},
		{"kid null", M{"kid": null}, nil, access.Granted},
		{"kid missing, one key fits", M{"kid": nil}, nil, access.Granted},
		{"kid missing, two keys fit", M{"kid": nil, "alg": "EdDSA"}, nil, access.BadSignature},
		{"kid missing, no key fits", M{"kid": nil, "alg": "PS256"}, nil, access.UnknownKey},
		{"kid of another key of that type", M{"kid": "k2", "alg": "EdDSA"}, nil, access.BadSignature},

		// T-JWT-11, RFC 9068 section 4
		{"typ in upper case", M{"typ": "AT+JWT"}, nil, access.Granted},
		{"typ in full", M{"typ": "application/at+jwt"}, nil, access.Granted},
		{"typ in full, upper case", M{"typ": "APPLICATION/AT+JWT"}, nil, access.Granted},
		{"typ missing", M{"typ": nil}, nil, access.WrongType},
		{"typ null", M{"typ": null}, nil, access.WrongType},
		{"typ number", M{"typ": 1}, nil, access.WrongType},
		{"typ empty", M{"typ": ""}, nil, access.WrongType},
		{"ID token", M{"typ": "JWT"}, nil, access.WrongType},
		{"logout token", M{"typ": "logout+jwt"}, nil, access.WrongType},
		{"security event", M{"typ": "secevent+jwt"}, nil, access.WrongType},
		{"introspection response", M{"typ": "token-introspection+jwt"}, nil, access.WrongType},
		{"client assertion", M{"typ": "client-authentication+jwt"}, nil, access.WrongType},
		{"DPoP proof", M{"typ": "dpop+jwt"}, nil, access.WrongType},
		{"typ with parameter", M{"typ": "at+jwt;x=y"}, nil, access.WrongType},
		{"typ of another tree", M{"typ": "text/at+jwt"}, nil, access.WrongType},
		{"typ with half a prefix", M{"typ": "application/"}, nil, access.WrongType},
		{"typ prefixed twice", M{"typ": "application/application/at+jwt"}, nil, access.WrongType},

		// T-JWT-07 and T-JWT-08, RFC 7519 sections 4.1.4 to 4.1.6; the leeway is 30 s
		{"exp missing", nil, M{"exp": nil}, access.MalformedToken},
		{"exp null", nil, M{"exp": null}, access.MalformedToken},
		{"exp string", nil, M{"exp": "1999999999"}, access.MalformedToken},
		{"exp bool", nil, M{"exp": true}, access.MalformedToken},
		{"exp object", nil, M{"exp": M{}}, access.MalformedToken},
		{"exp array", nil, M{"exp": []int64{in(time.Hour)}}, access.MalformedToken},
		{"exp beyond float64", nil, M{"exp": json.RawMessage("1e400")}, access.MalformedToken},
		{"exp beyond int64", nil, M{"exp": json.RawMessage("9223372036854775808")}, access.MalformedToken},
		{"exp beyond the year 9999", nil, M{"exp": json.RawMessage("253402300800")}, access.MalformedToken},
		{"exp negative", nil, M{"exp": -1}, access.MalformedToken},
		{"exp of the year 9999", nil, M{"exp": json.RawMessage("253402300799")}, access.Granted},
		{"exp fractional", nil, M{"exp": float64(in(time.Hour)) + 0.5}, access.Granted},
		{"exp in exponent form", nil, M{"exp": json.RawMessage("4e9")}, access.Granted},
		{"exp zero", nil, M{"exp": 0}, access.Expired},
		{"exp within the leeway", nil, M{"exp": in(-20 * time.Second)}, access.Granted},
		{"exp beyond the leeway", nil, M{"exp": in(-31 * time.Second)}, access.Expired},
		{"nbf missing", nil, M{"nbf": nil}, access.Granted},
		{"nbf past", nil, M{"nbf": in(-time.Hour)}, access.Granted},
		{"nbf within the leeway", nil, M{"nbf": in(20 * time.Second)}, access.Granted},
		{"nbf beyond the leeway", nil, M{"nbf": in(time.Minute)}, access.NotYetValid},
		{"nbf string", nil, M{"nbf": "0"}, access.MalformedToken},
		{"iat missing", nil, M{"iat": nil}, access.Granted},
		{"iat within the leeway", nil, M{"iat": in(20 * time.Second)}, access.Granted},
		{"iat beyond the leeway", nil, M{"iat": in(time.Minute)}, access.NotYetValid},
		{"iat string", nil, M{"iat": "0"}, access.MalformedToken},

		// T-JWT-09, RFC 9068 section 4
		{"aud missing", nil, M{"aud": nil}, access.WrongAudience},
		{"aud another", nil, M{"aud": "https://other.example"}, access.WrongAudience},
		{"aud empty", nil, M{"aud": ""}, access.WrongAudience},
		{"aud empty array", nil, M{"aud": []string{}}, access.WrongAudience},
		{"aud array without us", nil, M{"aud": []string{"a", "b"}}, access.WrongAudience},
		{"aud array with us", nil, M{"aud": []string{"a", audience}}, access.Granted},
		{"aud second of ours", nil, M{"aud": "https://old.example"}, access.Granted},
		{"aud prefix of ours", nil, M{"aud": audience[:len(audience)-1]}, access.WrongAudience},
		{"aud ours and more", nil, M{"aud": audience + "/"}, access.WrongAudience},
		{"aud in another case", nil, M{"aud": strings.ToUpper(audience)}, access.WrongAudience},
		{"aud of mixed types", nil, M{"aud": []any{audience, 1}}, access.MalformedToken},
		{"aud nested", nil, M{"aud": [][]string{{audience}}}, access.MalformedToken},
		{"aud object", nil, M{"aud": M{audience: true}}, access.MalformedToken},
		{"aud null", nil, M{"aud": null}, access.WrongAudience},
		{"aud with null", nil, M{"aud": []any{audience, null}}, access.MalformedToken},

		// T-JWT-10, RFC 9068 section 4
		{"iss missing", nil, M{"iss": nil}, access.UnknownIssuer},
		{"iss unknown", nil, M{"iss": "https://evil.example"}, access.UnknownIssuer},
		{"iss with slash", nil, M{"iss": issuer + "/"}, access.UnknownIssuer},
		{"iss in another case", nil, M{"iss": strings.ToUpper(issuer)}, access.UnknownIssuer},
		{"iss empty", nil, M{"iss": ""}, access.UnknownIssuer},
		{"iss array", nil, M{"iss": []string{issuer}}, access.MalformedToken},
		{"iss null", nil, M{"iss": null}, access.UnknownIssuer},

		// T-JWT-17, T-JWT-21 and the like
		{"scope array", nil, M{"scope": []string{"a"}}, access.Granted},
		{"scope empty array", nil, M{"scope": []string{}}, access.Granted},
		{"scope array with a number", nil, M{"scope": []any{"a", 1}}, access.MalformedToken},
		{"scope array with null", nil, M{"scope": []any{"a", null}}, access.MalformedToken},
		{"scope array within an array", nil, M{"scope": [][]string{{"a"}}}, access.MalformedToken},
		{"scope array with a space", nil, M{"scope": []string{"a b"}}, access.MalformedToken},
		{"scope object", nil, M{"scope": M{"a": true}}, access.MalformedToken},
		{"scope number", nil, M{"scope": 1}, access.MalformedToken},
		{"scope null", nil, M{"scope": null}, access.Granted},
		{"all null that a token need not have", nil, M{"sub": null, "client_id": null, "jti": null, "nbf": null, "iat": null, "scope": null}, access.Granted},
		{"client_id missing", nil, M{"client_id": nil}, access.Granted},
		{"client_id array", nil, M{"client_id": []string{client}}, access.MalformedToken},
		{"client_id number", nil, M{"client_id": 7}, access.MalformedToken},
		{"sub number", nil, M{"sub": 7}, access.MalformedToken},
		{"jti number", nil, M{"jti": 7}, access.MalformedToken},
		{"an unknown claim", nil, M{"acr": M{"x": []int{1}}}, access.Granted},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := key.Token(bound(c.claims), c.header)
			expect(t, v, raw, partner, c.want)
			expect(t, v, raw, partner, c.want) // on a cache hit, if the token is cached
		})
	}
}

// Media types are ASCII: a letter that Unicode folds to ASCII makes another type.
func TestTypeFolding(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Types = []string{"application/kiosk+jwt", "at+jwt"} }))
	for typ, want := range map[string]access.Reason{
		"KIOSK+jwt": access.Granted, "application/Kiosk+JWT": access.Granted, "At+Jwt": access.Granted,
		"\u212aiosk+jwt": access.WrongType, "kio\u017fk+jwt": access.WrongType, "JWT": access.WrongType,
	} {
		expect(t, v, key.Token(bound(), M{"typ": typ}), partner, want)
	}
}

// T-JWT-01: a token without a signature.
func TestUnsignedToken(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	payload := testpki.Segment(gatetest.JSON(bound()))
	for _, alg := range []string{"none", "None", "NONE", "nOnE"} {
		head := testpki.Segment(gatetest.JSON(M{"alg": alg, "typ": "at+jwt", "kid": "k1"}))
		expect(t, v, head+"."+payload+".", partner, access.UnsupportedAlgorithm)
	}
}

// T-JWT-02: a public key is never used as an HMAC secret, even if the algorithms include HS256,
// which package config does not allow.
func TestPublicKeyAsSecret(t *testing.T) {
	for _, algorithm := range []string{"ES256", "PS256"} {
		key := testpki.NewSigner(algorithm, "k1")
		der, err := x509.MarshalPKIXPublicKey(key.Key.Public())
		if err != nil {
			t.Fatal(err)
		}
		secrets := [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), gatetest.JSON(key.JWK())}
		if public, ok := key.Key.Public().(*rsa.PublicKey); ok {
			secrets = append(secrets, public.N.Bytes())
		}
		v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
		careless := newValidator(t, localKeys(key), gatetest.AuthorizationServer(gatetest.Algorithms(config.Algorithm(algorithm), "HS256")))
		input := testpki.Segment(gatetest.JSON(M{"alg": "HS256", "typ": "at+jwt", "kid": "k1"})) + "." + testpki.Segment(gatetest.JSON(bound()))
		for _, secret := range secrets {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(input))
			raw := input + "." + testpki.Segment(mac.Sum(nil))
			expect(t, v, raw, partner, access.UnsupportedAlgorithm)
			expect(t, careless, raw, partner, access.UnknownKey)
		}
	}
}

// T-JWT-03 and T-JWKS-05: a token that carries a key or its URL does not get its key used, and no
// request is sent to the URL.
func TestKeyInToken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := listener.Accept(); err == nil {
			_ = c.Close()
			called <- struct{}{}
		}
	}()
	attacker := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(testpki.NewSigner("ES256", "k1")), gatetest.AuthorizationServer())
	url := "https://" + listener.Addr().String() + "/jwks"
	expect(t, v, attacker.Token(bound(), M{"jwk": attacker.JWK(), "jku": url, "x5u": url}), partner, access.BadSignature)
	expect(t, v, attacker.Token(bound(), M{"kid": "mine", "jwk": attacker.JWK(), "jku": url}), partner, access.UnknownKey)
	expect(t, v, attacker.Token(bound(), M{"kid": url, "x5u": url}), partner, access.UnknownKey)
	_ = listener.Close()
	<-done
	if len(called) > 0 {
		t.Error("a request was sent to the token's URL, want none")
	}
}

// T-JWT-12, RFC 8725 section 3.8: the keys of a server verify no token of another server.
func TestKeysOfAnotherServer(t *testing.T) {
	one, two := testpki.NewSigner("ES256", "k"), testpki.NewSigner("ES256", "k")
	const second = "https://second.example"
	v := newValidator(t, Options{Local: map[config.Identifier]LocalIssuer{
		issuer: localKeySet(testpki.KeySet(one)), second: localKeySet(testpki.KeySet(two)),
	}}, gatetest.AuthorizationServer(), gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Name, s.Issuer = "second", second }))
	expect(t, v, one.Token(bound()), partner, access.Granted)
	expect(t, v, two.Token(bound(M{"iss": second})), partner, access.Granted)
	expect(t, v, two.Token(bound()), partner, access.BadSignature)
	expect(t, v, one.Token(bound(M{"iss": second})), partner, access.BadSignature)
}

// T-JWT-13 to T-JWT-16: correctly signed tokens that are malformed as text or as JSON.
func TestMalformedTokens(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	const head = `{"alg":"ES256","kid":"k1","typ":"at+jwt"}`
	good := key.Token(bound())
	part := strings.Split(good, ".")
	body := string(gatetest.JSON(bound()))
	plus := func(member string) []byte { return []byte(body[:len(body)-1] + "," + member + "}") }
	deep := strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)
	for name, raw := range map[string]string{
		"empty": "", "one dot": ".", "two dots": "..", "dots": "....", "no dots": "abc",
		"two parts":          part[0] + "." + part[1],
		"four parts":         good + ".",
		"five parts, a JWE":  good + "." + part[1] + "." + part[2],
		"trailing dot":       good + ".",
		"leading dot":        "." + good,
		"JSON serialization": `{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`,
		"empty header":       "." + part[1] + "." + part[2],
		"empty payload":      part[0] + ".." + part[2],
		"padded":             good + "=",
		"padded header":      part[0] + "=." + part[1] + "." + part[2],
		"standard alphabet":  strings.Replace(good, ".", "+.", 1),
		"slash":              strings.Replace(good, ".", "/.", 1),
		"line break inside":  good[:10] + "\n" + good[10:],
		"CR in signature":    good[:len(good)-3] + "\r" + good[len(good)-3:],
		"space inside":       good[:10] + " " + good[10:],
		"leading space":      " " + good,
		"null byte":          good + "\x00",
		"beyond ASCII":       good[:10] + "é" + good[10:],
		"a character alone":  part[0] + "." + part[1] + ".A",
		"trailing bits":      part[0] + "." + part[1] + "." + lastBits(part[2]),
		// Refused before the key is looked up, hence with an unknown key.
		"four parts, unknown key":  testpki.Segment([]byte(`{"alg":"ES256","kid":"x","typ":"at+jwt"}`)) + "." + part[1] + "." + part[2] + "." + part[2],
		"trailing bits in header":  lastBits(testpki.Segment([]byte(`{"alg":"ES256","kid":"x","typ":"at+jwt"}`))) + "." + part[1] + "." + part[2],
		"trailing bits in payload": testpki.Segment([]byte(`{"alg":"ES256","kid":"x","typ":"at+jwt"}`)) + "." + lastBits(testpki.Segment(fill(body))) + "." + part[2],
		"too long":                 key.Token(bound(M{"x": strings.Repeat("a", maxToken)})),
		"a million dots":           strings.Repeat(".", 1e6),
		"payload array":            key.Sign([]byte(head), []byte("["+body+"]")),
		"payload string":           key.Sign([]byte(head), []byte(`"x"`)),
		"payload null":             key.Sign([]byte(head), []byte("null")),
		"payload number":           key.Sign([]byte(head), []byte("1")),
		"payload not JSON":         key.Sign([]byte(head), []byte("{")),
		"payload twice":            key.Sign([]byte(head), []byte(body+body)),
		"payload with BOM":         key.Sign([]byte(head), []byte("\ufeff"+body)),
		"payload with NaN":         key.Sign([]byte(head), plus(`"x":NaN`)),
		"payload comment":          key.Sign([]byte(head), plus(`"x":1/**/`)),
		"bad UTF-8":                key.Sign([]byte(head), plus("\"x\":\"\xff\"")),
		"bad UTF-8 in a name":      key.Sign([]byte(head), plus("\"\xff\":1")),
		"lone surrogate":           key.Sign([]byte(head), plus(`"x":"\ud800"`)),
		"claim twice":              key.Sign([]byte(head), plus(`"iss":"`+issuer+`"`)),
		"claim twice, escape":      key.Sign([]byte(head), plus(`"is\u0073":"`+issuer+`"`)),
		"unknown claim twice":      key.Sign([]byte(head), plus(`"x":1,"x":1`)),
		"twice, deep":              key.Sign([]byte(head), plus(`"x":[{"y":{"z":1,"z":1}}]`)),
		"twice, in cnf":            key.Sign([]byte(head), []byte(strings.Replace(body, `"x5t#S256":`, `"x5t#S256":"x","x5t#S256":`, 1))),
		"header twice":             key.Sign([]byte(head+head), []byte(body)),
		"header array":             key.Sign([]byte("["+head+"]"), []byte(body)),
		"header null":              key.Sign([]byte("null"), []byte(body)),
		"header member twice":      key.Sign([]byte(`{"alg":"none",`+head[1:]), []byte(body)),
		"header bad UTF-8":         key.Sign([]byte("{\"x\":\"\xff\","+head[1:]), []byte(body)),
	} {
		t.Run(name, func(t *testing.T) { expect(t, v, raw, partner, access.MalformedToken) })
	}
	expect(t, v, good, partner, access.Granted)
	expect(t, v, key.Sign([]byte(head), plus(`"x":`+deep)), partner, access.Granted)
	expect(t, v, key.Sign([]byte(" "+head+"\n"), []byte(" "+body+"\n")), partner, access.Granted)
}

// lastBits sets the unused bits of an unpadded base64url segment. An ES256 signature of 64 bytes
// has four.
func lastBits(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	return segment[:len(segment)-1] + alphabet[last+1:last+2]
}

// fill appends spaces to body until its last base64url character has unused bits.
func fill(body string) []byte {
	for len(body)%3 != 1 {
		body += " "
	}
	return []byte(body)
}

// Signatures that do not match the header, RFC 8725 section 3.3.
func TestBadSignatures(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	good := key.Token(bound())
	part := strings.Split(good, ".")
	unsigned := part[0] + "." + part[1] + "."
	otherPart := strings.Split(key.Token(bound()), ".")
	for name, raw := range map[string]string{
		"none":                 unsigned,
		"all zero":             unsigned + testpki.Segment(make([]byte, 64)), // CVE-2022-21449
		"short":                unsigned + testpki.Segment(make([]byte, 63)),
		"long":                 unsigned + testpki.Segment(make([]byte, 65)),
		"of another token":     unsigned + otherPart[2],
		"over another payload": part[0] + "." + otherPart[1] + "." + part[2],
		"by another key":       testpki.NewSigner("ES256", "k1").Token(bound()),
		"of another algorithm": testpki.NewSigner("EdDSA", "k1").Token(bound(), M{"alg": "ES256"}),
	} {
		t.Run(name, func(t *testing.T) { expect(t, v, raw, partner, access.BadSignature) })
	}
}

// T-JWT-19: if signature and claims are wrong, the signature's reason is reported, and the client
// is not named before the signature has verified.
func TestClientNamedOnlyWhenVerified(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	expired := bound(M{"exp": 1})
	for _, c := range []struct {
		name, raw, client string
		want              access.Reason
	}{
		{"expired and badly signed", testpki.NewSigner("ES256", "k1").Token(expired), "", access.BadSignature},
		{"malformed claim and badly signed", testpki.NewSigner("ES256", "k1").Token(bound(M{"exp": "1"})), "", access.BadSignature},
		{"unknown key", key.Token(bound(), M{"kid": "k2"}), "", access.UnknownKey},
		{"unknown issuer", key.Token(bound(M{"iss": "x"})), "", access.UnknownIssuer},
		{"expired", key.Token(expired), client, access.Expired},
		{"malformed claim", key.Token(bound(M{"exp": "1"})), client, access.MalformedToken},
		{"wrong audience", key.Token(bound(M{"aud": "x"})), client, access.WrongAudience},
		{"not bound", key.Token(bound(M{"cnf": nil})), client, access.NotBound},
	} {
		_, err := v.Validate(context.Background(), Credentials{Token: c.raw}, certificate(partner))
		var d *access.Denial
		if !errors.As(err, &d) || d.Reason != c.want || d.ClientID != c.client {
			t.Errorf("%s: got %v of client %q, want %s of %q", c.name, err, d.ClientID, c.want, c.client)
		}
	}
}

// All eight algorithms verify with their own key and with no other key.
func TestAlgorithms(t *testing.T) {
	signers := make([]*testpki.Signer, len(every))
	for i, a := range every {
		signers[i] = testpki.NewSigner(string(a), "key of "+string(a))
	}
	v := newValidator(t, localKeys(signers...), gatetest.AuthorizationServer(gatetest.Algorithms(every...)))
	for _, s := range signers {
		expect(t, v, s.Token(bound()), partner, access.Granted)
		for _, wrong := range signers {
			if wrong != s {
				expect(t, v, s.Token(bound(), M{"kid": wrong.KeyID}), partner, access.UnknownKey)
				expect(t, v, s.Token(bound(), M{"alg": wrong.Algorithm}), partner, access.UnknownKey)
			}
		}
	}
}

// Claims are returned unchanged; scopes are split as RFC 6749 section 3.3 says (T-JWT-17).
func TestClaims(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	raw := key.Token(M{
		"iss": issuer, "aud": []string{"x", audience}, "sub": "S", "client_id": client, "jti": "J", "azp": "somebody else",
		"iat": 1_700_000_000, "nbf": 1_700_000_001.25, "exp": 4_000_000_000,
		"scope": "  orders:read  orders:write\torders:admin billing ", "scp": "all", "Scope": "root",
		"cnf": M{"x5t#S256": partner.Thumbprint()},
	})
	want := access.Claims{
		Server: "partners", Issuer: issuer, Subject: "S", ClientID: client, TokenID: "J",
		Audience: []string{"x", audience}, Scopes: []string{"orders:read", "billing"},
		Expires: time.Unix(4_000_000_000, 0), NotBefore: time.Unix(1_700_000_001, 250_000_000), IssuedAt: time.Unix(1_700_000_000, 0),
		Confirmation: access.Confirmation{Present: true, Thumbprint: access.ThumbprintOf(partner.Cert)},
	}
	for range 2 { // miss and hit
		got, err := v.Validate(context.Background(), Credentials{Token: raw}, certificate(partner))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// T-BR-05: refusing a malformed token does not allocate, for any size of the token.
func TestDotsAllocations(t *testing.T) {
	v := newValidator(t, localKeys(testpki.NewSigner("ES256", "k1")), gatetest.AuthorizationServer())
	cert := certificate(partner)
	for _, raw := range []string{strings.Repeat(".", 1e6), strings.Repeat(".", maxToken), strings.Repeat("a.", maxToken/2)} {
		if n := testing.AllocsPerRun(10, func() { _, _ = v.Validate(context.Background(), Credentials{Token: raw}, cert) }); n > 10 {
			t.Errorf("%d dots: %v allocations, want few", len(raw), n)
		}
	}
}

// Only tokens that our key signed are accepted, and Validate never panics: the signature covers
// every byte before it.
func FuzzToken(f *testing.F) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(f, localKeys(key, testpki.NewSigner("EdDSA", "k2")), gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Cache.Entries = 0 }))
	attacker := testpki.NewSigner("ES256", "k1")
	good := key.Token(bound())
	seeds := []string{
		good, attacker.Token(bound()), attacker.Token(bound(), M{"alg": "none"}), attacker.Token(bound(), M{"jwk": attacker.JWK()}),
		key.Token(bound(M{"exp": "x"})), "..", good + ".", strings.TrimRight(good, "=") + "A",
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	cert := certificate(partner)
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := v.Validate(context.Background(), Credentials{Token: raw}, cert); err == nil && raw != good {
			t.Errorf("Validate(%q) = nil, want an error", raw)
		} else if err != nil {
			gatetest.Reason(t, err)
		}
	})
}

// Any signed payload is accepted or refused with a reason, without a panic, and an accepted token
// is bound to the certificate.
func FuzzPayload(f *testing.F) {
	key := testpki.NewSigner("EdDSA", "k1")
	v := newValidator(f, localKeys(key), gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Cache.Entries = 0 }))
	seeds := [][]byte{
		gatetest.JSON(bound()), gatetest.JSON(bound(M{"exp": 1})), gatetest.JSON(bound(M{"cnf": nil})), gatetest.JSON(bound(M{"cnf": M{"x5t#S256": 1}})),
		gatetest.JSON(bound(M{"aud": []any{1}})), gatetest.JSON(bound(M{"scope": " a  b "})), []byte("{}"), []byte("null"), []byte(`{"exp":1e400}`),
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	cert := certificate(partner)
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := v.Validate(context.Background(), Credentials{Token: key.Sign([]byte(`{"alg":"EdDSA","kid":"k1","typ":"at+jwt"}`), payload)}, cert)
		if err != nil {
			gatetest.Reason(t, err)
			return
		}
		if claims.Issuer != issuer || !claims.Confirmation.Thumbprint.Matches(cert.Thumbprint) || !json.Valid(payload) {
			t.Errorf("Validate accepted payload %q without a binding", payload)
		}
	})
}
