package revocation

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The feed of an issuer is a stream of server-sent events (WHATWG HTML, "Server-sent events"). Each event
// has a signed JWT as its data, and as its id the [Position] that a gate has reached when it has taken over
// the event. The signature is of a key in the issuer's key set. There are two kinds of events.
const (
	// SetEvent is the name of an event with one revocation. Its data is a Security Event Token (RFC 8417)
	// with the claims [SecurityEvent].
	SetEvent = "set"
	SetType  = "secevent+jwt" // typ, RFC 8417 section 2.3
	// BatchEvent is the name of an event with any number of revocations. Its data is a JWT with the claims
	// [Batch]. A batch without revocations is the heartbeat.
	BatchEvent = "batch"
	BatchType  = "tallygate-revocations+jwt" // typ

	// SessionRevoked is the event type of CAEP 1.0 section 3.1.
	SessionRevoked = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"

	// HeartbeatInterval is the longest time between two batches while the issuer knows all revocations. An
	// issuer that may have missed a revocation sends no batch.
	HeartbeatInterval = 2 * time.Second

	// BatchSize is the largest number of revocations in a batch.
	BatchSize = 1000

	// MaxEvent bounds the text of one event in bytes. A batch has at most 1000 entries of 100 bytes, and
	// base64 makes them 4/3 as long: 134 KB. Long client_ids may take three times as much.
	MaxEvent = 512 << 10
)

// A Position is how far a reader has read in a log of revocations.
type Position struct {
	Epoch string // the name of a log, without a colon. A Seq has a meaning in the log of this name only.
	Seq   uint64 // the number of the last revocation that was read; 0 before the first
}

// String returns p as the id of an event, and as Last-Event-ID.
func (p Position) String() string { return p.Epoch + ":" + strconv.FormatUint(p.Seq, 10) }

var errPosition = errors.New("a position is an epoch, a colon and a number")

// ParsePosition is the inverse of [Position.String].
func ParsePosition(text string) (Position, error) {
	epoch, number, ok := strings.Cut(text, ":")
	seq, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || epoch == "" || len(text) > 200 {
		return Position{}, errPosition
	}
	return Position{epoch, seq}, nil
}

// A Batch has the claims of a batch. A gate that knows every revocation up to After knows every
// revocation up to Seq when it has taken over the batch. If After is above the gate's position, or if Epoch is not
// the gate's epoch, the gate has missed something and must connect again.
type Batch struct {
	Issuer   string  `json:"iss"`
	IssuedAt Seconds `json:"iat"`
	Epoch    string  `json:"epoch"`
	After    uint64  `json:"after"`
	Seq      uint64  `json:"seq"`
	// Snapshot says that the batch is a part of a snapshot, which is sent to a gate that is too far behind or has read
	// a log with another epoch. The parts of a snapshot have the numbers 1, 2 and so on, and the last part has Last. Their After is
	// 0, and all have the same Seq: the gate reaches Seq by adding every part.
	Snapshot int     `json:"snapshot,omitempty"`
	Last     bool    `json:"last,omitempty"`
	Entries  []Entry `json:"entries,omitempty"`
}

// A SecurityEvent has the claims of a Security Event Token (RFC 8417 section 2.2) with one revocation. The
// subject and the event type are standard, so that other receivers can use the token. A gate uses Entry and the
// position alone.
type SecurityEvent struct {
	Issuer   string              `json:"iss"`
	ID       string              `json:"jti"`
	IssuedAt Seconds             `json:"iat"`
	Time     Seconds             `json:"toe"` // when the issuer stored the revocation
	Subject  SubjectID           `json:"sub_id"`
	Events   map[string]CAEPBody `json:"events"` // the only key is SessionRevoked
	Epoch    string              `json:"epoch"`
	After    uint64              `json:"after"` // as in Batch
	Seq      uint64              `json:"seq"`
	Entry    Entry               `json:"entry"`
}

// CAEPBody is the payload of an event of CAEP 1.0 section 2.
type CAEPBody struct {
	EventTimestamp Seconds `json:"event_timestamp"`
	Initiator      string  `json:"initiating_entity"` // "admin" or "system"
}

// A SubjectID is a subject identifier of RFC 9493 section 3.2: iss_sub for an application or a foreign subject,
// and opaque for the other kinds.
type SubjectID struct {
	Format  string `json:"format"`
	ID      string `json:"id,omitempty"`
	Issuer  string `json:"iss,omitempty"`
	Subject string `json:"sub,omitempty"`
}

// SubjectIDOf returns the subject identifier for e, which issuer publishes.
func SubjectIDOf(e *Entry, issuer string) SubjectID {
	switch e.Kind {
	case Application:
		return SubjectID{Format: "iss_sub", Issuer: issuer, Subject: e.Subject}
	case ForeignSubject:
		iss, sub, _ := strings.Cut(e.Subject, "\x00")
		return SubjectID{Format: "iss_sub", Issuer: iss, Subject: sub}
	case Partner:
		return SubjectID{Format: "opaque", ID: "partner:" + e.Subject}
	case Certificate:
		return SubjectID{Format: "opaque", ID: "x5t#S256:" + e.Subject}
	case Token:
		return SubjectID{Format: "opaque", ID: "jti_sha256:" + base64.RawURLEncoding.EncodeToString([]byte(e.Subject))}
	case ForeignToken:
		return SubjectID{Format: "opaque", ID: "iss_jti_sha256:" + base64.RawURLEncoding.EncodeToString([]byte(e.Subject))}
	}
	return SubjectID{}
}

// Seconds is a NumericDate (RFC 7519 section 2) with milliseconds. The zero time is not valid.
type Seconds struct{ time.Time }

// MarshalJSON implements [json.Marshaler].
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%d.%03d", s.Unix(), s.Nanosecond()/int(time.Millisecond)), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var seconds float64
	if err := json.Unmarshal(text, &seconds); err != nil {
		return err
	}
	if seconds <= 0 || seconds >= 1<<40 { // 1<<40 seconds are 35,000 years
		return errors.New("not a time")
	}
	whole, part := math.Modf(seconds)
	s.Time = time.Unix(int64(whole), int64(part*1e3+0.5)*int64(time.Millisecond))
	return nil
}

// JSONSize bounds the bytes of text in a message: JSON may escape a byte with six bytes, as in \u0000.
func JSONSize(text string) int {
	size := len(text)
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf {
			size += 5
		}
	}
	return size
}
