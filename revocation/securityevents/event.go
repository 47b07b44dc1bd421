package securityevents

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/internal/facts"
)

// The beginnings of event types: CAEP 1.0 section 3, RISC 1.0 section 2, SSF 1.0 sections 8.1.4 and 8.1.5.
const (
	caep = "https://schemas.openid.net/secevent/caep/event-type/"
	risc = "https://schemas.openid.net/secevent/risc/event-type/"
	ssf  = "https://schemas.openid.net/secevent/ssf/event-type/"
)

// revoking has the event types that revoke the tokens of their subject.
var revoking = map[string]bool{
	caep + "session-revoked":  true,
	caep + credentialChange:   true, // only with the change types of removed
	risc + "account-disabled": true,
	risc + "account-purged":   true,
	risc + "sessions-revoked": true, // deprecated by RISC 1.0 in favour of session-revoked
}

const (
	credentialChange = "credential-change"
	verification     = ssf + "verification"
	streamUpdated    = ssf + "stream-updated"
)

// removed has the values of change_type for a credential that has become invalid (CAEP 1.0 section
// 3.3.1). A new or updated credential, such as a changed password, revokes nothing.
var removed = map[string]bool{"revoke": true, "delete": true}

// An event is the payload of an event that revokes.
type event struct {
	Timestamp  jsontext.Value `json:"event_timestamp"` // CAEP 1.0 section 2
	ChangeType jsontext.Value `json:"change_type"`
	// Before SSF 1.0 had the claim sub_id, the subject was a member of the event: subject in drafts of SSF,
	// and iss and sub in RFC 8417 section 2.2.
	Subject     jsontext.Value `json:"subject"`
	SubjectID   jsontext.Value `json:"sub_id"`
	Issuer      jsontext.Value `json:"iss"`
	SubjectName jsontext.Value `json:"sub"`
}

// readEvents adds the revocations and the types of the events in c to s. issued is the time of the token. An
// event of a type that revokes is a fault if its subject cannot be mapped to tokens: the server must not get
// an acknowledgement for an event without effect.
func (r *Receiver) readEvents(s *statement, c *claims, issued, now time.Time) error {
	if len(c.Events) == 0 || len(c.Events) > maxEvents {
		return &fault{invalidRequest, "The claim events is missing, empty or too large."}
	}
	s.result = ignored
	for name, payload := range c.Events {
		switch {
		case name == verification:
			s.result = max(s.result, verified)
		case name == streamUpdated:
			s.types = append(s.types, shortType(name))
		case revoking[name]:
			s.types = append(s.types, shortType(name))
			if err := r.readRevocation(s, c, name, payload, issued, now); err != nil {
				return err
			}
		}
	}
	if len(s.entries) > 0 {
		s.result = applied
	}
	return nil
}

// shortType returns the last segment of an event type.
func shortType(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// readRevocation adds the revocations of an event to s.
func (r *Receiver) readRevocation(s *statement, c *claims, eventType string, payload jsontext.Value, issued, now time.Time) error {
	var e event
	if json.Unmarshal(payload, &e) != nil {
		return &fault{invalidRequest, "The event is not a JSON object."}
	}
	if change, _ := facts.Text(e.ChangeType); strings.HasSuffix(eventType, credentialChange) && !removed[change] {
		return nil
	}
	if at, ok := r.past(e.Timestamp, now); ok && at.After(issued) {
		issued = at
	}
	subjects := subject{issuer: r.issuer, issued: issued, now: now}
	found := false
	for _, identifier := range []jsontext.Value{c.SubjectID, e.SubjectID, e.Subject} {
		if identifier == nil {
			continue
		}
		found = true
		entries, err := subjects.entries(identifier)
		if err != nil {
			return err
		}
		s.entries = append(s.entries, entries...)
	}
	if found {
		return nil
	}
	issuer, name := e.Issuer, e.SubjectName
	if name == nil {
		issuer, name = c.Issuer, c.Subject
	}
	entry, err := subjects.user(issuer, name)
	if err != nil {
		return err
	}
	s.entries = append(s.entries, entry)
	return nil
}
