package jwks

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// Keys that are left out are logged with kid and reason, once until the list changes: keys that
// are malformed, weak or of an algorithm that is not accepted as a warning, keys that are not for
// signatures as information. Our own issuer's key set stands for key sets that change.
func TestLeftOutKeysAreLogged(t *testing.T) {
	good, pair := testpki.NewSigner("ES256", "good"), testpki.SelfSigned("as.example")
	certified := &testpki.Signer{Key: pair.Key, KeyID: "certified", Algorithm: "ES256"}
	notBase64 := certified.JWK(M{"x5c": []string{base64.RawURLEncoding.EncodeToString(pair.Cert.Raw)}})
	short := weakRSA(t)
	low := lowOrderJWK(append([]byte{1}, make([]byte, 31)...), "low")
	other := good.JWK(M{"kid": "sealed", "use": "enc"})
	operations := good.JWK(M{"kid": "wraps", "use": nil, "key_ops": []string{"wrapKey"}})

	version, document := uint64(0), []byte(nil)
	publish := func(keys ...any) { version, document = version+1, gatetest.KeySet(keys...) }
	publish(good.JWK())
	var log bytes.Buffer
	settings := gatetest.AuthorizationServer()
	pool, logger := new(reuse.Pool), slog.New(slog.NewJSONHandler(&log, nil))
	s := after(t, pool, func() ([]byte, uint64) { return document, version }, settings, logger)
	told := func(keys ...any) (lines []string) {
		t.Helper()
		log.Reset()
		publish(keys...)
		if s.Latest() == nil {
			t.Fatal("Latest() = nil, want a key set")
		}
		for line := range strings.Lines(log.String()) {
			lines = append(lines, line)
		}
		return lines
	}
	if lines := told(good.JWK()); len(lines) > 0 {
		t.Errorf("log without left-out keys: %q, want none", lines)
	}
	for reason, key := range map[string]any{
		`kid \"certified\": failed to unmarshal JSON Web Key: failed to Base64 decode X.509`: notBase64,
		`kid \"short\": an RSA key of fewer than 2048 bits`:                                  short,
		`kid \"low\": an Ed25519 key of low order`:                                           low,
		`key 2 without kid: not a JWK`:                                                       "text",
		`kid \"hollow\": `:                                                                   M{"kid": "hollow", "kty": "EC", "crv": "P-256"},
		`kid \"secret\": `:                                                                   M{"kid": "secret", "kty": "oct", "k": "AAAA"},
		`kid \"future\": kty \"new\", crv \"\" are not supported`:                            M{"kid": "future", "kty": "new"},
		`kid \"bitcoin\": kty \"EC\", crv \"secp256k1\" are not supported`:                   good.JWK(M{"kid": "bitcoin", "crv": "secp256k1", "alg": "ES256K"}),
		`alg \"ES384\" fit none of the accepted algorithms [\"ES256\"`:                       testpki.NewSigner("ES384", "larger").JWK(),
	} {
		lines := told(good.JWK(), key)
		if len(lines) != 1 || !strings.Contains(lines[0], `"level":"WARN","msg":"unusable keys left out of the key set","issuer":"partners","count":1`) ||
			!strings.Contains(lines[0], reason) {
			t.Errorf("want %s, says %q", reason, lines)
		}
		if lines := told(good.JWK(), key); len(lines) > 0 {
			t.Errorf("log after the same key set: %q, want none", lines)
		}
	}
	if lines := told(good.JWK(), other, operations); len(lines) != 1 || !strings.Contains(lines[0], `"level":"INFO","msg":"keys for other uses left out of the key set","issuer":"partners","count":2`) {
		t.Errorf("log for other uses: %q, want one line of information", lines)
	}
	many := []any{good.JWK()}
	for range maxKeys - 1 {
		many = append(many, M{"kid": strings.Repeat("k", 2_000), "kty": "EC"})
	}
	if lines := told(many...); len(lines) != 1 || len(lines[0]) > 5_000 || !strings.Contains(lines[0], fmt.Sprintf(`"count":%d`, maxKeys-1)) {
		t.Errorf("%d log lines for many keys, want 1", len(lines))
	}

	// A reload does not log the same list again.
	log.Reset()
	after(t, pool, s.local, settings, logger)
	if log.Len() > 0 {
		t.Errorf("log after a reload: %s, want none", log.String())
	}
}

// weakRSA returns an RSA key of 1024 bits as a JWK.
func weakRSA(t *testing.T) M {
	t.Helper()
	// Only the size of the modulus matters, so any odd number will do.
	n := bytes.Repeat([]byte{0xd1}, 128)
	key := M{"kid": "short", "kty": "RSA", "n": testpki.Segment(n), "e": "AQAB"}
	return key
}

// "no usable key" and the refusal of an unknown key say which keys are there and why each other
// key does not count.
func TestKeysAreNamed(t *testing.T) {
	rs, es := testpki.NewSigner("RS256", "rsa"), testpki.NewSigner("ES384", "ec")
	_, fromFile := gatetest.KeyFile(t, gatetest.KeySet(rs.JWK(), es.JWK(), rs.JWK(M{"kid": "sealed", "use": "enc"})))
	_, err := New(gatetest.AuthorizationServer(fromFile), options(nil))
	for _, want := range []string{
		`no usable key: kid "rsa": kty "RSA", crv "", alg "RS256" fit none of the accepted algorithms ["ES256" "PS256" "EdDSA"]; `,
		`kid "ec": kty "EC", crv "P-384", alg "ES384" fit none`, `kid "sealed": for another use: use "enc"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %s", err, want)
		}
	}
	_, empty := gatetest.KeyFile(t, gatetest.KeySet())
	if _, err := New(gatetest.AuthorizationServer(empty), options(nil)); err == nil || !strings.Contains(err.Error(), "no usable key: the set is empty") {
		t.Errorf("New with an empty set = %v, want that it is empty", err)
	}

	_, fromFile = gatetest.KeyFile(t, gatetest.KeySet(rs.JWK(), es.JWK(), rs.JWK(M{"kid": "sealed", "use": "enc"})))
	s := newSource(t, nil, gatetest.AuthorizationServer(fromFile, gatetest.Algorithms("RS256", "EdDSA")))
	jws, err := Parse(rs.Token(bound(), M{"kid": "gone"}))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Verify(t.Context(), jws, MediaTypes("at+jwt"), time.Now())
	want := `no key for alg RS256 and kid "gone"; the key set has kid "rsa" for [RS256]; left out: kid "ec": kty "EC", crv "P-384", alg "ES384" fit none of the accepted algorithms ["RS256" "EdDSA"]; kid "sealed": for another use: use "enc"`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Verify = %v, want %s", err, want)
	}

	signers := make([]*testpki.Signer, maxKeys)
	for i := range signers {
		signers[i] = &testpki.Signer{Key: rs.Key, KeyID: strings.Repeat("k", 200) + strconv.Itoa(i), Algorithm: "RS256"}
	}
	_, fromFile = gatetest.KeyFile(t, testpki.KeySet(signers...))
	many := newSource(t, nil, gatetest.AuthorizationServer(fromFile, gatetest.Algorithms("RS256"))).Latest().described
	if len(many) > 1_000 || !strings.HasSuffix(many, "and 97 more") {
		t.Errorf("description of %d keys has %d bytes and ends in %q, want at most 1,000 and the number of the others", maxKeys, len(many), many[len(many)-20:])
	}
}
