package validate

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
)

// maxKeyID bounds a token's kid. It is a name to look up; the longest in use are
// SHA-256 in hex, 64 bytes, and short URLs.
const maxKeyID = 256

// A token is a compact JWS (RFC 7515 section 7.1) taken apart. Nothing in it is
// verified.
type token struct {
	raw       string
	algorithm string // alg; "" when it is missing or no string
	mediaType string // typ; "" when it is missing or no string
	keyID     string // kid
	namesKey  bool   // whether kid is present
	issuer    string // iss; "" when it is missing
	payload   payload
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

// parse takes raw apart. Header and payload must be JSON objects in UTF-8 in which
// no object, however deep, has two members of one name: two readers that disagree
// on which of them counts would see two different tokens (RFC 7519 section 4).
func parse(raw string) (*token, error) {
	head, body, err := split(raw)
	if err != nil {
		return nil, err
	}
	t := &token{raw: raw}
	var h header
	if err := decode(head, &h); err != nil {
		return nil, deny(access.MalformedToken, "reading header: %w", err)
	}
	if err := decode(body, &t.payload); err != nil {
		return nil, deny(access.MalformedToken, "reading payload: %w", err)
	}
	// No extension is understood, so none may be critical, RFC 7515 section 4.1.11.
	// An unencoded payload, RFC 7797, must be listed there; not all check that.
	if h.Critical != nil || h.Base64Payload != nil {
		return nil, deny(access.MalformedToken, "the header has a crit or b64 member")
	}
	t.algorithm, _ = text(h.Algorithm)
	t.mediaType, _ = text(h.Type)
	if t.namesKey = h.KeyID != nil; t.namesKey {
		keyID, ok := text(h.KeyID)
		if !ok || len(keyID) > maxKeyID {
			return nil, deny(access.MalformedToken, "kid is no string of at most %d bytes", maxKeyID)
		}
		t.keyID = keyID
	}
	if t.payload.Issuer != nil {
		issuer, ok := text(t.payload.Issuer)
		if !ok {
			return nil, deny(access.MalformedToken, "iss is no string")
		}
		t.issuer = issuer
	}
	return t, nil
}

// split returns the header and payload segments of raw, which must have three
// segments (RFC 7515 section 7.1; five are a JWE, RFC 7516) in the alphabet of
// base64url. The alphabet is checked here because Go's decoder skips line breaks.
func split(raw string) (head, body string, err error) {
	for i := range len(raw) {
		if c := raw[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return "", "", deny(access.MalformedToken, "a character outside base64url")
		}
	}
	head, rest, _ := strings.Cut(raw, ".")
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return "", "", deny(access.MalformedToken, "not three segments")
	}
	return head, body, nil
}

// decode reads segment, a JSON object in base64url, into members.
func decode(segment string, members any) error {
	document, err := segmentEncoding.DecodeString(segment)
	if err != nil {
		return err
	}
	if jsontext.Value(document).Kind() != jsontext.KindBeginObject {
		return errNoObject
	}
	return json.Unmarshal(document, members)
}

// text returns the string that v is, and whether it is one.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != jsontext.KindString {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}
