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

// maxKeyID bounds a kid in bytes. The longest in use are SHA-256 in hex, 64 bytes, and short
// URLs.
const maxKeyID = 256

// A JWS is a parsed compact JWS (RFC 7515 section 7.1). Its signature is not verified.
type JWS struct {
	Algorithm string         // alg; "" when absent or not a string
	Type      string         // typ; the JSON text of a typ that is not a string
	NamesType bool           // typ is present
	KeyID     string         // kid
	NamesKey  bool           // the header has a kid
	Payload   jsontext.Value // an undecoded JSON value that begins an object
	// JWK is the jwk of the header, nil when absent. It is for DPoP proofs (RFC 9449 section 4.2),
	// which are signed by a key of their own. No token is verified by it.
	JWK jsontext.Value

	signed    string // the signing input, RFC 7515 section 5.2
	signature string // base64url
}

// header holds the members of the JOSE header that the gate reads, RFC 7515 section 4.1. Members
// that point to keys or carry certificates (jku, x5c, x5u) are ignored.
type header struct {
	Algorithm     jsontext.Value `json:"alg"`
	Type          facts.Member   `json:"typ"`
	KeyID         jsontext.Value `json:"kid"`
	Critical      jsontext.Value `json:"crit"`
	Base64Payload jsontext.Value `json:"b64"`
	JWK           jsontext.Value `json:"jwk"`
}

// segmentEncoding refuses trailing bits that are not zero, so that a token has exactly one
// spelling, RFC 4648 section 3.5.
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
	// JSON may begin with white space. No server issues opaque tokens that decode to white space
	// alone.
	var begin [48]byte
	n, err := base64.RawURLEncoding.Decode(begin[:], []byte(head[:min(len(head), 64)]))
	text := bytes.TrimLeft(begin[:n], " \t\r\n")
	return err == nil && (len(text) == 0 || text[0] == '{')
}

// Parse splits raw and decodes its header. Header and payload must be JSON objects in UTF-8
// without duplicate member names at any depth: two readers that disagree on which duplicate
// counts would see two different tokens (RFC 7519 section 4). Parse checks this for the header;
// decoding the payload checks it for the payload. Every error wraps an [access.Denial] with
// [access.MalformedToken].
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
	// The gate understands no extension, so a critical extension is an error, RFC 7515 section
	// 4.1.11. An unencoded payload (RFC 7797) must be listed as critical, but not all libraries
	// check that.
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
		keyID, ok := facts.Text(h.KeyID)
		if !ok || len(keyID) > maxKeyID {
			return nil, access.Denyf(access.MalformedToken, "kid is not a string of at most %d bytes", maxKeyID)
		}
		t.KeyID = keyID
	}
	return t, nil
}

// split returns the three segments of raw (RFC 7515 section 7.1; a JWE has five, RFC 7516). It
// checks the base64url alphabet, because Go's decoder skips line breaks.
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

// decode returns segment, which must be base64url of the beginning of a JSON object.
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

// mismatch returns a Denial for a quoted value that is not in want.
func mismatch[T ~string](reason access.Reason, name string, want []T, got string) error {
	listed := make([]string, len(want))
	for i, w := range want {
		listed[i] = string(w)
	}
	return &access.Denial{Reason: reason, Err: &access.Mismatch{Name: name, Want: strings.Join(listed, " or "), Got: got}}
}
