package securityevents

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/revocation"
)

// maxIdentifiers bounds the identifiers in an identifier of the format aliases.
const maxIdentifiers = 16

// A subject translates subject identifiers (RFC 9493) into revocations.
type subject struct {
	issuer string    // the identifier of the server, which can revoke only its own subjects and tokens
	issued time.Time // the tokens of a subject that were issued until this time are revoked
	now    time.Time
}

// An identifier is a subject identifier. Which members it has depends on its format.
type identifier struct {
	Format      jsontext.Value   `json:"format"`
	Issuer      jsontext.Value   `json:"iss"`
	Subject     jsontext.Value   `json:"sub"`
	TokenID     jsontext.Value   `json:"jti"`
	Identifiers []jsontext.Value `json:"identifiers"` // aliases, RFC 9493 section 3.2.8
	User        jsontext.Value   `json:"user"`        // complex, SSF 1.0 section 3.2
	Application jsontext.Value   `json:"application"`
	Session     jsontext.Value   `json:"session"`
}

var (
	errSubject = &fault{invalidRequest, "This receiver cannot map the subject to tokens. It accepts iss_sub and jwt_id of this authorization server, and aliases and complex with such an identifier."}
	errForeign = &fault{invalidRequest, "The subject belongs to another issuer, whose tokens this authorization server cannot revoke."}
)

// entries returns the revocations of the tokens of the subject in text. It returns a fault if the subject cannot be mapped to tokens.
func (s subject) entries(text jsontext.Value) ([]revocation.Entry, error) {
	var id identifier
	if json.Unmarshal(text, &id) != nil {
		return nil, errSubject
	}
	switch format, _ := facts.Text(id.Format); {
	case format == "aliases":
		return s.aliases(id.Identifiers)
	case format == "complex", id.Format == nil && id.User != nil: // drafts of SSF had no format for complex subjects
		return s.complex(&id)
	}
	return s.simple(&id)
}

// simple returns the revocation for an identifier of the format iss_sub or jwt_id.
func (s subject) simple(id *identifier) ([]revocation.Entry, error) {
	var entry revocation.Entry
	var err error
	switch format, _ := facts.Text(id.Format); format {
	case "iss_sub": // RFC 9493 section 3.2.3
		entry, err = s.user(id.Issuer, id.Subject)
	case "jwt_id": // SSF 1.0 section 3.4.1
		entry, err = s.token(id.Issuer, id.TokenID)
	default:
		err = errSubject
	}
	if err != nil {
		return nil, err
	}
	return []revocation.Entry{entry}, nil
}

// user returns the revocation of the tokens that iss issued to sub.
func (s subject) user(iss, sub jsontext.Value) (revocation.Entry, error) {
	name, ok := boundedText(sub)
	if !ok {
		return revocation.Entry{}, errSubject
	}
	if issuer, _ := facts.Text(iss); issuer != s.issuer {
		return revocation.Entry{}, errForeign
	}
	return revocation.Entry{
		Kind: revocation.ForeignSubject, Subject: revocation.ForeignSubjectName(s.issuer, name),
		IssuedBy: s.issued, Until: s.now.Add(revocation.ForeignRetention),
	}, nil
}

// token returns the revocation of one token. An event does not say when the token expires.
func (s subject) token(iss, jti jsontext.Value) (revocation.Entry, error) {
	id, ok := boundedText(jti)
	if !ok {
		return revocation.Entry{}, errSubject
	}
	if issuer, _ := facts.Text(iss); issuer != s.issuer {
		return revocation.Entry{}, errForeign
	}
	return revocation.Entry{
		Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum(s.issuer, id), Until: s.now.Add(revocation.ForeignRetention),
	}, nil
}

// aliases returns the revocations for all identifiers of the same subject that can be mapped. At least one must
// be mapped. Aliases in aliases are not allowed (RFC 9493 section 3.2.8).
func (s subject) aliases(identifiers []jsontext.Value) (all []revocation.Entry, err error) {
	if len(identifiers) > maxIdentifiers {
		return nil, errSubject
	}
	err = errSubject
	for _, text := range identifiers {
		var id identifier
		if json.Unmarshal(text, &id) != nil {
			return nil, errSubject
		}
		entries, refused := s.simple(&id)
		if refused == nil {
			all, err = append(all, entries...), nil
		} else if len(all) == 0 {
			err = refused
		}
	}
	return all, err
}

// complex returns the revocations for a complex subject. Each member restricts the subject further, so the
// tokens of each member include the tokens of the subject. An event about a session therefore revokes all tokens of
// the session's user.
func (s subject) complex(id *identifier) ([]revocation.Entry, error) {
	var err error = errSubject
	for _, member := range []jsontext.Value{id.User, id.Application, id.Session} {
		if member == nil {
			continue
		}
		var part identifier
		if json.Unmarshal(member, &part) != nil {
			return nil, errSubject
		}
		var entries []revocation.Entry
		if format, _ := facts.Text(part.Format); format == "aliases" {
			entries, err = s.aliases(part.Identifiers)
		} else {
			entries, err = s.simple(&part)
		}
		if err == nil {
			return entries, nil
		}
	}
	return nil, err
}
