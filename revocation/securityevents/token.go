package securityevents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/revocation"
)

const (
	// maxToken bounds a Security Event Token in bytes. Tokens in use have 500 to 2,000 bytes.
	maxToken = 16 << 10
	// maxEvents bounds the events in a token. SSF 1.0 section 4.1.7 allows one event.
	maxEvents = 16
	// maxText bounds jti and the texts of a subject in bytes. A sub of OpenID Connect has at most 255.
	maxText = 1024
)

// A code says in an error message to the server why a token is refused (RFC 8935 section 2.4).
type code string

const (
	invalidRequest       code = "invalid_request"
	invalidKey           code = "invalid_key"
	invalidIssuer        code = "invalid_issuer"
	invalidAudience      code = "invalid_audience"
	authenticationFailed code = "authentication_failed"
)

// A fault is the refusal of a Security Event Token. Its text quotes nothing of the token.
type fault struct {
	code        code
	description string
}

func (f *fault) Error() string { return string(f.code) + ": " + f.description }

// tokenTypes are the accepted typ values. RFC 8417 section 2.3 recommends the typ, and SSF 1.0 section 4.1.4
// requires it. A token without typ is refused, because an access token could then be used as an event.
var tokenTypes = jwks.MediaTypes(revocation.SetType)

// A statement has the content of a verified Security Event Token.
type statement struct {
	id      string   // jti
	types   []string // the event types that are known, in their short form
	entries []revocation.Entry
	result  result
}

// claims are the claims of a Security Event Token, RFC 8417 section 2.2. exp has no meaning (section 2.2),
// and no other claim revokes anything.
type claims struct {
	Issuer    jsontext.Value            `json:"iss"`
	Audience  jsontext.Value            `json:"aud"`
	ID        jsontext.Value            `json:"jti"`
	IssuedAt  jsontext.Value            `json:"iat"`
	Time      jsontext.Value            `json:"toe"`
	SubjectID jsontext.Value            `json:"sub_id"`
	Subject   jsontext.Value            `json:"sub"`
	Events    map[string]jsontext.Value `json:"events"`
}

// verify returns the statement in raw, if raw is a Security Event Token of the server for this receiver. The
// error is a [fault] if the token is refused. Any other error says that the token cannot be judged now, because
// the key set is not known.
func (r *Receiver) verify(ctx context.Context, raw string) (*statement, error) {
	if len(raw) > maxToken {
		return nil, &fault{invalidRequest, fmt.Sprintf("The token has more than %d bytes.", maxToken)}
	}
	now := r.now()
	token, err := jwks.Parse(raw)
	if err == nil {
		_, _, err = r.keys.Verify(ctx, token, tokenTypes, now)
	}
	if err != nil {
		return nil, faultOf(err)
	}
	c, ok := readClaims(token.Payload)
	if !ok {
		return nil, &fault{invalidRequest, "The claims are not a JSON object of bounded size without duplicate members."}
	}
	issued, err := r.checkClaims(c, now)
	if err != nil {
		return nil, err
	}
	id, ok := boundedText(c.ID)
	if !ok {
		return nil, &fault{invalidRequest, "The claim jti is missing or too long."}
	}
	s := &statement{id: id}
	return s, r.readEvents(s, c, issued, now)
}

// readClaims returns the claims in payload. ok is false if payload is not a JSON object of bounded size.
func readClaims(payload []byte) (_ *claims, ok bool) {
	var c claims
	return &c, jsonlimit.Check(payload) == nil && json.Unmarshal(payload, &c) == nil
}

// faultOf returns the fault for an error of package jwks, or err if the key set is not known.
func faultOf(err error) error {
	switch access.ReasonOf(err) { //nolint:exhaustive // package jwks returns no other reasons
	case access.IssuerUnavailable:
		return err
	case access.UnsupportedAlgorithm, access.UnknownKey, access.BadSignature:
		return &fault{invalidKey, "No key of the key set verifies the signature, or the algorithm is not accepted."}
	case access.WrongType:
		return &fault{invalidRequest, "The typ of the token is not secevent+jwt."}
	}
	return &fault{invalidRequest, "The token is not a signed JWT."}
}

// checkClaims checks iss, aud and iat, and returns the latest of iat and toe that is not in the future.
func (r *Receiver) checkClaims(c *claims, now time.Time) (issued time.Time, err error) {
	if iss, ok := facts.Text(c.Issuer); !ok || iss != r.issuer {
		return issued, &fault{invalidIssuer, "The claim iss is not the identifier of the authorization server."}
	}
	if !slices.Contains(audiences(c.Audience), r.settings.Audience) {
		return issued, &fault{invalidAudience, "The claim aud does not name this receiver."}
	}
	issued, ok := r.past(c.IssuedAt, now)
	if !ok {
		return issued, &fault{invalidRequest, "The claim iat is missing, not a time, or in the future."}
	}
	if occurred, ok := r.past(c.Time, now); ok && occurred.After(issued) {
		issued = occurred
	}
	return issued, nil
}

// audiences returns the audiences in aud, which is a text or a list of texts (RFC 7519 section 4.1.3).
func audiences(aud jsontext.Value) []string {
	if one, ok := facts.Text(aud); ok {
		return []string{one}
	}
	var list []string
	if json.Unmarshal(aud, &list) != nil {
		return nil
	}
	return list
}

// past returns the time in v, unless v is not a time or is later than now by more than the leeway.
func (r *Receiver) past(v jsontext.Value, now time.Time) (time.Time, bool) {
	var at revocation.Seconds
	if v == nil || at.UnmarshalJSON(v) != nil || at.After(now.Add(r.leeway)) {
		return time.Time{}, false
	}
	return at.Time, true
}

// boundedText returns the text in v, unless v is not a text, is empty, is too long or has a NUL, which no
// database stores in a text.
func boundedText(v jsontext.Value) (string, bool) {
	text, ok := facts.Text(v)
	if !ok || text == "" || len(text) > maxText || slices.Contains([]byte(text), 0) {
		return "", false
	}
	return text, true
}

// isFault reports whether err is the refusal of a token.
func isFault(err error) (*fault, bool) {
	var f *fault
	ok := errors.As(err, &f)
	return f, ok
}
