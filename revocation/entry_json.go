package revocation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	strictjson "github.com/go-json-experiment/json"
)

// A jsonEntry is the JSON form of an Entry. Exactly one of the first six members is set.
type jsonEntry struct {
	Token          string       `json:"token,omitempty"`         // base64url of the SHA-256 of a jti
	Application    string       `json:"application,omitempty"`   // client_id
	Partner        string       `json:"partner,omitempty"`       // name
	Certificate    string       `json:"certificate,omitempty"`   // x5t#S256
	ForeignToken   string       `json:"foreign_token,omitempty"` // base64url of a ForeignTokenSum
	ForeignSubject *jsonSubject `json:"foreign_subject,omitempty"`
	IssuedBy       int64        `json:"issued_by,omitempty"` // Unix seconds
	Until          int64        `json:"until,omitempty"`     // Unix seconds
}

type jsonSubject struct {
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
}

// MarshalJSON implements [json.Marshaler].
func (e Entry) MarshalJSON() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	var j jsonEntry
	switch e.Kind {
	case Token:
		j.Token = base64.RawURLEncoding.EncodeToString([]byte(e.Subject))
	case Application:
		j.Application = e.Subject
	case Partner:
		j.Partner = e.Subject
	case Certificate:
		j.Certificate = e.Subject
	case ForeignToken:
		j.ForeignToken = base64.RawURLEncoding.EncodeToString([]byte(e.Subject))
	case ForeignSubject:
		iss, sub, _ := strings.Cut(e.Subject, "\x00")
		j.ForeignSubject = &jsonSubject{iss, sub}
	}
	if !e.IssuedBy.IsZero() {
		j.IssuedBy = e.IssuedBy.Unix()
	}
	if !e.Until.IsZero() {
		j.Until = e.Until.Unix()
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements [json.Unmarshaler]. Unknown members are an error, because a gate that does not
// understand a revocation must not pass over it.
func (e *Entry) UnmarshalJSON(text []byte) error {
	var j jsonEntry
	if err := strictjson.Unmarshal(text, &j, strictjson.RejectUnknownMembers(true)); err != nil {
		return errEntry
	}
	subjects := [...]string{
		Token: decodeSum(j.Token), Application: j.Application, Partner: j.Partner, Certificate: j.Certificate, ForeignToken: decodeSum(j.ForeignToken),
	}
	found := 0
	if j.ForeignSubject != nil {
		*e, found = Entry{Kind: ForeignSubject, Subject: ForeignSubjectName(j.ForeignSubject.Issuer, j.ForeignSubject.Subject)}, 1
	}
	for kind, subject := range subjects {
		if subject != "" {
			*e = Entry{Kind: Kind(kind), Subject: subject}
			found++
		}
	}
	if found != 1 || j.IssuedBy < 0 || j.Until < 0 {
		return errEntry
	}
	if j.IssuedBy > 0 {
		e.IssuedBy = time.Unix(j.IssuedBy, 0)
	}
	if j.Until > 0 {
		e.Until = time.Unix(j.Until, 0)
	}
	return e.Check()
}

// decodeSum returns the bytes of a SHA-256 in base64url, or "" if text has another form.
func decodeSum(text string) string {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sum) != sha256.Size {
		return ""
	}
	return string(sum)
}
