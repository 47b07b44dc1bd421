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

// Keys that are left out are logged with kid and reason, once until the list changes: malformed
// and weak keys as a warning, keys for other uses as information. Our own issuer's key set stands
// for key sets that change.
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
	if lines := told(good.JWK(), other, unread); len(lines) != 1 || !strings.Contains(lines[0], `"level":"INFO","msg":"keys for other uses left out of the key set","issuer":"partners","count":2`) {
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
	after(t, s, s.local, settings, s.log)
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
