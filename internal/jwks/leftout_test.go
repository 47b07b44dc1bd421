package jwks

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// A key that is left out is told with its kid and the reason, once until something else is
// left out: as a warning where it is malformed or weak, below that where it is for another
// use. Our own issuer's set stands for those that change.
func TestLeftOutKeysAreLogged(t *testing.T) {
	good, pair := testpki.NewSigner("ES256", "good"), testpki.SelfSigned("as.example")
	certified := &testpki.Signer{Key: pair.Key, KeyID: "certified", Algorithm: "ES256"}
	notBase64 := certified.JWK(M{"x5c": []string{base64.RawURLEncoding.EncodeToString(pair.Cert.Raw)}})
	short := weakRSA(t)
	low := lowOrderJWK(append([]byte{1}, make([]byte, 31)...), "low")
	other := good.JWK(M{"kid": "sealed", "use": "enc"})
	unread := M{"kid": "future", "kty": "new"}

	version, document := uint64(0), []byte(nil)
	publish := func(keys ...any) { version, document = version+1, set(keys...) }
	publish(good.JWK())
	var log bytes.Buffer
	settings := settings()
	s := logged(t, func() ([]byte, uint64) { return document, version }, settings, slog.New(slog.NewJSONHandler(&log, nil)))
	told := func(keys ...any) (lines []string) {
		t.Helper()
		log.Reset()
		publish(keys...)
		if s.Latest() == nil {
			t.Fatal("there are no keys")
		}
		for line := range strings.Lines(log.String()) {
			lines = append(lines, line)
		}
		return lines
	}
	if lines := told(good.JWK()); len(lines) > 0 {
		t.Errorf("of nothing it says %q", lines)
	}
	for reason, key := range map[string]any{
		`kid \"certified\": failed to unmarshal JSON Web Key: failed to Base64 decode X.509`: notBase64,
		`kid \"short\": an RSA key of fewer than 2048 bits`:                                  short,
		`kid \"low\": an Ed25519 key of low order`:                                           low,
		`key 2 without kid: not a JWK`:                                                       "text",
		`kid \"hollow\": `:                                                                   M{"kid": "hollow", "kty": "EC", "crv": "P-256"},
		`kid \"secret\": `:                                                                   M{"kid": "secret", "kty": "oct", "k": "AAAA"},
	} {
		lines := told(good.JWK(), key)
		if len(lines) != 1 || !strings.Contains(lines[0], `"level":"WARN","msg":"unusable keys left out of the key set","issuer":"partners","count":1`) ||
			!strings.Contains(lines[0], reason) {
			t.Errorf("want %s, says %q", reason, lines)
		}
		if lines := told(good.JWK(), key); len(lines) > 0 {
			t.Errorf("says again %q", lines)
		}
	}
	if lines := told(good.JWK(), other, unread); len(lines) != 1 || !strings.Contains(lines[0], `"level":"INFO","msg":"keys for other uses left out of the key set","issuer":"partners","count":2`) {
		t.Errorf("of other uses it says %q", lines)
	}
	many := []any{good.JWK()}
	for range maxKeys - 1 {
		many = append(many, M{"kid": strings.Repeat("k", 2_000), "kty": "EC"})
	}
	if lines := told(many...); len(lines) != 1 || len(lines[0]) > 5_000 || !strings.Contains(lines[0], fmt.Sprintf(`"count":%d`, maxKeys-1)) {
		t.Errorf("of many keys it says %d lines", len(lines))
	}

	// A configuration that is read anew tells nothing that was told.
	log.Reset()
	after(t, s, s.local, settings, s.log)
	if log.Len() > 0 {
		t.Errorf("after a reload it says %s", log.String())
	}
}

// weakRSA is an RSA key of 1024 bits as a JWK.
func weakRSA(t *testing.T) M {
	t.Helper()
	// The modulus alone counts here, so any odd number of so many bits will do.
	n := bytes.Repeat([]byte{0xd1}, 128)
	key := M{"kid": "short", "kty": "RSA", "n": testpki.Segment(n), "e": "AQAB"}
	return key
}
