package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/ascii"
	"github.com/tallygate/tallygate/internal/http1"
)

// requestID is the header with the request's id, in the request to the upstream and in the answer to the
// client. The gate takes the id from the client only if the configuration says so, because the id identifies a
// log line.
const requestID = "X-Request-Id"

// interactionID is the header with the id that FAPI 1.0 part 1 section 6.2.1 demands in each answer.
const interactionID = "X-Fapi-Interaction-Id"

// maxRequestID bounds an id of the client. Ids in use have 16 to 64 characters.
const maxRequestID = 128

// newID returns 128 random bits in hex. The id is not a secret, so math/rand/v2 is enough.
func newID() string {
	var b [16]byte
	randomise(&b)
	return hex.EncodeToString(b[:])
}

func randomise(b *[16]byte) {
	binary.BigEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // not a secret
	binary.BigEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // not a secret
}

// setIDs sets the ids of c.
func (c *checkedRequest) setIDs(settings config.Correlation) {
	if settings.RequestID == config.ClientRequestID {
		c.id = ownID(c.Request, requestID, isRequestID)
		c.idFromClient = c.id != ""
	}
	if !c.idFromClient {
		c.id = newID()
	}
	if !settings.FAPIInteractionID {
		return
	}
	if c.interactionID = ownID(c.Request, interactionID, isUUID); c.interactionID == "" {
		c.interactionID = newUUID()
	}
}

// ownID returns the id that the client sent in the field with this name, or "" if the client sent no id, a
// malformed id or several ids, or named the field in Connection.
func ownID(r *http.Request, name string, valid func(string) bool) string {
	if lines := r.Header[name]; len(lines) == 1 && valid(lines[0]) && !isNamed(r, name) {
		return lines[0]
	}
	return ""
}

// appendIDs appends the ids of c to fields, in the request to the upstream and in the answer to the client.
func (c *checkedRequest) appendIDs(fields []http1.Field) []http1.Field {
	fields = append(fields, http1.Field{Name: requestID, Value: c.id})
	if c.interactionID != "" {
		fields = append(fields, http1.Field{Name: interactionID, Value: c.interactionID})
	}
	return fields
}

// isRequestID reports whether s is an id that the gate takes from a client: characters of hexadecimal, UUIDs,
// base64 and the like, which need no escaping in a header, in JSON, in a URL path or in a shell.
func isRequestID(s string) bool {
	for i := range len(s) {
		if c := s[i]; !ascii.IsAlphanumeric(c) && c != '-' && c != '_' && c != '.' && c != ':' && c != '+' && c != '/' && c != '=' {
			return false
		}
	}
	return s != "" && len(s) <= maxRequestID
}

// isUUID reports whether s is a UUID in its text form (RFC 9562 section 4), in lower or upper case.
func isUUID(s string) bool {
	if len(s) != uuidLength {
		return false
	}
	for i := range len(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if c := s[i]; hyphen != (c == '-') || !hyphen && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

const uuidLength = 36

// newUUID returns a random UUID, version 4 (RFC 9562 section 5.4). It is not a secret.
func newUUID() string {
	var b [16]byte
	randomise(&b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	text := make([]byte, 0, uuidLength)
	for i, part := range [...][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}
