package feed

import (
	"encoding/json"
	"sync"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/revocation"
)

// A message is the text of a server-sent event, which is signed when the first subscriber needs it and then shared by all
// of them. It is signed again when the signing keys have changed: the earlier key may no longer be published.
type message struct {
	mu      sync.Mutex
	text    []byte
	version uint64 // of the keys
}

// signed returns the text of m. claims makes its content.
func (f *Feed) signed(m *message, name, typ string, id revocation.Position, claims func() any) ([]byte, error) {
	version := f.options.KeyVersion()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.text != nil && m.version == version {
		return m.text, nil
	}
	text, err := f.sign(name, typ, id, claims())
	if err != nil {
		return nil, err
	}
	m.text, m.version = text, version
	return text, nil
}

// sign returns an event whose data are claims as a JWT. Without an epoch the event has no id, so that a subscriber
// which connects again does not take the event for the position that it has reached.
func (f *Feed) sign(name, typ string, id revocation.Position, claims any) ([]byte, error) {
	content, err := json.Marshal(claims)
	if err != nil {
		return nil, err
	}
	token, err := f.options.Sign(typ, payload{RawMessage: content})
	if err != nil {
		return nil, err
	}
	text := make([]byte, 0, len(token)+len("event: \nid: \ndata: \n\n")+len(name)+len(id.Epoch)+20)
	text = append(append(text, "event: "...), name...)
	if id.Epoch != "" {
		text = append(append(text, "\nid: "...), id.String()...)
	}
	text = append(append(text, "\ndata: "...), token...)
	return append(text, "\n\n"...), nil
}

// payload has the claims of a JWT that is signed and not validated.
type payload struct {
	json.RawMessage
	jwt.RegisteredClaims `json:"-"` // for the methods of jwt.Claims
}

// securityEvent returns the text of the Security Event Token for e.
func (f *Feed) securityEvent(epoch string, e *event) ([]byte, error) {
	id := revocation.Position{Epoch: epoch, Seq: e.seq}
	return f.signed(&e.message, revocation.SetEvent, revocation.SetType, id, func() any {
		initiator := "system"
		if e.operator {
			initiator = "admin"
		}
		stored := revocation.Seconds{Time: e.stored}
		return revocation.SecurityEvent{
			Issuer: f.options.Issuer, ID: id.String(), IssuedAt: revocation.Seconds{Time: e.issued}, Time: stored,
			Subject: revocation.SubjectIDOf(&e.entry, f.options.Issuer),
			Events:  map[string]revocation.CAEPBody{revocation.SessionRevoked: {EventTimestamp: stored, Initiator: initiator}},
			Epoch:   epoch, After: e.after, Seq: e.seq, Entry: e.entry,
		}
	})
}
