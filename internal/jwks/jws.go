package jwks

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/facts"
)

// maxKeyID bounds a kid. It is a name to look up; the longest in use are
// SHA-256 in hex, 64 bytes, and short URLs.
const maxKeyID = 256

// A JWS is a compact one (RFC 7515 section 7.1) taken apart. Nothing in it is verified.
type JWS struct {
	Algorithm string         // alg; "" when it is missing or no string
	Type      string         // typ; "" when it is missing or no string
	KeyID     string         // kid
	NamesKey  bool           // whether kid is present
	Payload   jsontext.Value // a JSON object, of which nothing else is known

	signed    string // what the signature is of, RFC 7515 section 5.2
	signature string // in base64url
}

// header is the part of a JOSE header that counts here, RFC 7515 section 4.1. The
// members that carry or point to keys (jwk, jku, x5c, x5u) are not even read.
type header struct {
	Algorithm     jsontext.Value `json:"alg"`
	Type          jsontext.Value `json:"typ"`
	KeyID         jsontext.Value `json:"kid"`
	Critical      jsontext.Value `json:"crit"`
	Base64Payload jsontext.Value `json:"b64"`
}

// segmentEncoding refuses trailing bits that are not zero, so that one token has
// one spelling, RFC 4648 section 3.5.
var segmentEncoding = base64.RawURLEncoding.Strict()

var errNoObject = errors.New("not a JSON object")

// IsJWS reports whether raw looks like a compact JWS: three segments, of which the
// first is the beginning of a JSON object in base64url. What looks like one is judged
// as one, so that no malformed JWT is taken for an opaque token.
func IsJWS(raw string) bool {
	head, rest, _ := strings.Cut(raw, ".")
	_, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") || len(head) < 2 {
		return false
	}
	// JSON may begin with white space; of nothing but that, no opaque token is made.
	var begin [48]byte
	n, err := base64.RawURLEncoding.Decode(begin[:], []byte(head[:min(len(head), 64)]))
	text := bytes.TrimLeft(begin[:n], " \t\r\n")
	return err == nil && (len(text) == 0 || text[0] == '{')
}

// Parse takes raw apart. Header and payload must be JSON objects in UTF-8 in which
// no object, however deep, has two members of one name: two readers that disagree
// on which of them counts would see two different tokens (RFC 7519 section 4). Whether
// it holds for the payload is found when that is decoded; Parse looks at the header.
// Every error wraps an [access.Denial] for [access.MalformedToken].
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
	// No extension is understood, so none may be critical, RFC 7515 section 4.1.11.
	// An unencoded payload, RFC 7797, must be listed there; not all check that.
	if h.Critical != nil || h.Base64Payload != nil {
		return nil, access.Denyf(access.MalformedToken, "the header has a crit or b64 member")
	}
	t.Algorithm, _ = facts.Text(h.Algorithm)
	t.Type, _ = facts.Text(h.Type)
	if t.NamesKey = h.KeyID != nil; t.NamesKey {
		keyID, ok := facts.Text(h.KeyID)
		if !ok || len(keyID) > maxKeyID {
			return nil, access.Denyf(access.MalformedToken, "kid is no string of at most %d bytes", maxKeyID)
		}
		t.KeyID = keyID
	}
	return t, nil
}

// split returns the segments of raw, which must have three
// segments (RFC 7515 section 7.1; five are a JWE, RFC 7516) in the alphabet of
// base64url. The alphabet is checked here because Go's decoder skips line breaks.
func split(raw string) (head, body, signature string, err error) {
	for i := range len(raw) {
		if c := raw[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return "", "", "", access.Denyf(access.MalformedToken, "a character outside base64url")
		}
	}
	head, rest, _ := strings.Cut(raw, ".")
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return "", "", "", access.Denyf(access.MalformedToken, "not three segments")
	}
	return head, body, signature, nil
}

// decode returns segment, which must be base64url of what begins a JSON object.
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

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// mismatch returns a refusal of what is none of want.
func mismatch[T ~string](reason access.Reason, of string, want []T, got string) error {
	listed := make([]string, len(want))
	for i, w := range want {
		listed[i] = string(w)
	}
	return &access.Denial{Reason: reason, Err: &access.Mismatch{Name: of, Want: strings.Join(listed, " or "), Got: strconv.Quote(access.Truncate(got))}}
}
