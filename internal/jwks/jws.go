package jwks

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/ascii"
	"github.com/tallygate/tallygate/internal/facts"
)

// maxKeyID bounds a kid in bytes. The longest kids in use are SHA-256 sums in hex, 64 bytes, and short
// URLs.
const maxKeyID = 256

// A JWS is a parsed compact JWS (RFC 7515 section 7.1). Its signature is not verified.
type JWS struct {
	Algorithm string         // alg; "" when absent or not a string
	Type      string         // typ; the JSON text of a typ that is not a string
	NamesType bool           // typ is present and not null
	KeyID     string         // the kid of the header; "" when absent
	NamesKey  bool           // kid is present and not null
	Payload   jsontext.Value // the payload, not decoded further; it begins a JSON object
	// JWK is the jwk of the header; nil when absent. Only DPoP proofs use it (RFC 9449 section 4.2),
	// because a proof names the key that signed the proof. No token is verified with this key.
	JWK jsontext.Value

	signed    string // the signing input, RFC 7515 section 5.2
	signature string // the signature in base64url
}

// header holds the members of the JOSE header that the gate reads, RFC 7515 section 4.1. Members
// that point to keys or carry certificates (jku, x5c, x5u) are ignored.
type header struct {
	Algorithm     jsontext.Value `json:"alg"`
	Type          facts.Member   `json:"typ"`
	KeyID         facts.Member   `json:"kid"`
	Critical      jsontext.Value `json:"crit"`
	Base64Payload jsontext.Value `json:"b64"`
	JWK           jsontext.Value `json:"jwk"`
}

// segmentEncoding refuses trailing bits that are not zero (RFC 4648 section 3.5), so that no two
// encodings decode to the same token.
var segmentEncoding = base64.RawURLEncoding.Strict()

var errNoObject = errors.New("not a JSON object")

// IsJWS reports whether raw looks like a compact JWS: three segments, the first of which is
// base64url of the beginning of a JSON object. A token that looks like a JWS is handled as a JWS,
// so that a malformed JWT is never taken for an opaque token.
func IsJWS(raw string) bool {
	head, rest, _ := strings.Cut(raw, ".")
	_, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") || len(head) < 2 {
		return false
	}
	// JSON may begin with white space, and no server issues opaque tokens that decode to white space
	// alone.
	var begin [48]byte
	n, err := base64.RawURLEncoding.Decode(begin[:], []byte(head[:min(len(head), 64)]))
	text := bytes.TrimLeft(begin[:n], " \t\r\n")
	return err == nil && (len(text) == 0 || text[0] == '{')
}

// Parse splits raw and decodes its header. Header and payload must be JSON objects in UTF-8 without
// duplicate member names at any depth, because two parsers may use different duplicates and so read two
// different tokens (RFC 7519 section 4). Parse checks the header. The caller checks the payload by
// decoding it. Every error wraps an [access.Denial] with [access.MalformedToken].
func Parse(raw string) (*JWS, error) {
	head, body, signature, err := split(raw)
	if err != nil {
		return nil, err
	}
	t := &JWS{signed: raw[:len(raw)-len(signature)-1], signature: signature}
	var h header
	document, err := decode(head)
	if err == nil {
		err = json.Unmarshal(document, &h)
	}
	if err != nil {
		return nil, access.Denyf(access.MalformedToken, "reading header: %w", err)
	}
	if t.Payload, err = decode(body); err != nil {
		return nil, access.Denyf(access.MalformedToken, "reading payload: %w", err)
	}
	// The gate supports no extension, so a critical extension is an error (RFC 7515 section 4.1.11).
	// The member b64 (RFC 7797) is an error even if crit does not list it: RFC 7797 demands that crit
	// lists b64, but not all libraries check that.
	if h.Critical != nil || h.Base64Payload != nil {
		return nil, access.Denyf(access.MalformedToken, "the header has a crit or b64 member")
	}
	t.JWK = h.JWK
	t.Algorithm, _ = facts.Text(h.Algorithm)
	if t.NamesType = h.Type != nil; t.NamesType {
		var ok bool
		if t.Type, ok = h.Type.Text(); !ok {
			t.Type = string(h.Type)
		}
	}
	if t.NamesKey = h.KeyID != nil; t.NamesKey {
		keyID, ok := h.KeyID.Text()
		if !ok || len(keyID) > maxKeyID {
			return nil, access.Denyf(access.MalformedToken, "kid is not a string of at most %d bytes", maxKeyID)
		}
		t.KeyID = keyID
	}
	return t, nil
}

// split returns the three segments of raw (RFC 7515 section 7.1). A JWE has five segments (RFC 7516)
// and is an error. split checks the base64url alphabet, because Go's decoder skips line breaks.
func split(raw string) (head, body, signature string, err error) {
	for i := range len(raw) {
		if c := raw[i]; !ascii.IsAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return "", "", "", access.Denyf(access.MalformedToken, "a character outside the base64url alphabet")
		}
	}
	head, rest, _ := strings.Cut(raw, ".")
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return "", "", "", access.Denyf(access.MalformedToken, "not three segments")
	}
	return head, body, signature, nil
}

// decode returns the decoded segment. segment must be base64url of the beginning of a JSON object.
func decode(segment string) (jsontext.Value, error) {
	document, err := segmentEncoding.DecodeString(segment)
	if err != nil {
		return nil, err
	}
	if jsontext.Value(document).Kind() != jsontext.KindBeginObject {
		return nil, errNoObject
	}
	return document, nil
}

// mismatch returns a Denial that says that got is not in want. Its text quotes got and want.
func mismatch[T ~string](reason access.Reason, name string, want []T, got string) error {
	listed := make([]string, len(want))
	for i, w := range want {
		listed[i] = string(w)
	}
	return &access.Denial{Reason: reason, Err: &access.Mismatch{Name: name, Want: strings.Join(listed, " or "), Got: got}}
}
