package issuer

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// Revoke revokes the token, application, partner or certificate that request names. When it returns,
// the revocation is durable. If a token was not issued by this issuer or has expired, Revoke returns
// no error, and the response says so.
func (i *Issuer) Revoke(request RevocationRequest) (RevocationResponse, error) {
	done, err := i.revokeRequested(request)
	i.logOperation(done, err, request.logAttributes()...)
	return RevocationResponse{Done: done}, err
}

// logAttributes returns the log attributes of r. The token is not among them.
func (r *RevocationRequest) logAttributes() (attributes []slog.Attr) {
	if r.Actor != "" {
		attributes = append(attributes, slog.String("actor", r.Actor))
	}
	if r.Reason != "" {
		attributes = append(attributes, slog.String("revocation_reason", access.Truncate(r.Reason)))
	}
	return attributes
}

// A mistake is the error of a request that the operator has mistyped. Its text quotes the request, so an answer over mutual
// TLS has the text of the fault instead.
type mistake struct {
	error
	fault fault
}

func (m *mistake) Unwrap() error { return m.error }

var errOneMember = &mistake{errors.New("want exactly one of token, application, partner and thumbprint"), malformedOperation}

// revokeRequested does the work of Revoke. done describes the revocation for the operator.
func (i *Issuer) revokeRequested(request RevocationRequest) (done string, err error) {
	if len(request.Reason) > store.MaxReason || strings.ContainsFunc(request.Reason, isUnprintable) {
		return "", &mistake{fmt.Errorf("a reason is printable text of at most %d bytes", store.MaxReason), badReason}
	}
	by := author{request.Actor, request.Reason}
	request.Actor, request.Reason = "", ""
	switch request {
	case RevocationRequest{}:
		return "", errOneMember
	case RevocationRequest{Token: request.Token}:
		return i.revokeTokenText(request.Token, by)
	case RevocationRequest{Application: request.Application}:
		if _, known := i.owners[request.Application]; !known {
			return "", &mistake{fmt.Errorf("there is no application %q", access.Truncate(request.Application)), unknownApplication}
		}
		return i.revokeIssued(revocation.Application, request.Application, "every token of application "+request.Application, by)
	case RevocationRequest{Partner: request.Partner}:
		if !i.partners[request.Partner] {
			return "", &mistake{fmt.Errorf("there is no partner %q", access.Truncate(request.Partner)), unknownPartner}
		}
		return i.revokePartner(request.Partner, by)
	case RevocationRequest{Thumbprint: request.Thumbprint}:
		return i.revokeCertificate(request.Thumbprint, by)
	}
	return "", errOneMember
}

// isUnprintable reports whether a reason must not have r: a terminal may interpret it, or it stands for invalid UTF-8.
func isUnprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// An author names the actor of a revocation, and the reason, for the audit record.
type author struct{ actor, reason string }

// revokeTokenText revokes one token of any client.
func (i *Issuer) revokeTokenText(raw string, by author) (done string, err error) {
	token, err := i.findToken(raw)
	switch {
	case err != nil:
		return "", err
	case token == nil:
		return "nothing: the token was not issued here, or has expired", nil
	}
	if err := i.revokeToken(token, "", by); err != nil {
		return "", err
	}
	return fmt.Sprintf("revoked a token of application %s, jti_hash %s", token.ClientID, tokenIDHash(token.ID)), nil
}

// revokePartner revokes the tokens issued to a partner's applications so far. It also stores a
// revocation for each application, so that the application's tokens stay revoked if the application
// moves to another partner or the partner is renamed.
func (i *Issuer) revokePartner(name string, by author) (done string, err error) {
	for application, owner := range i.owners {
		if owner != name {
			continue
		}
		if _, err := i.revokeIssued(revocation.Application, application, application, by); err != nil {
			return "", err
		}
	}
	return i.revokeIssued(revocation.Partner, name, "every token of partner "+name, by)
}

// revokeIssued revokes the tokens issued to subject so far. Times in tokens are whole seconds, so tokens that are issued
// later in the same second are revoked too. If the clock was set back, or the clock of another process is ahead, tokens
// with an iat ahead of the clock are revoked too. The revocation is never removed, because tokens of other servers may
// live longer than our own. There is at most one such revocation for each name.
func (i *Issuer) revokeIssued(kind revocation.Kind, subject, what string, by author) (done string, err error) {
	now, err := i.state.LatestIssue(i.now())
	if err != nil {
		return "", storeRefusal(err)
	}
	if last := time.Unix(i.latestIssuedAt.Load(), 0); last.After(now) {
		now = last
	}
	err = i.revocations.add(store.Revocation{
		Kind: kind, Subject: subject, IssuedBy: now, Actor: by.actor, Reason: by.reason,
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("revoked %s that was issued until %s", what, now.UTC().Format(time.RFC3339)), nil
}

func (i *Issuer) revokeCertificate(text string, by author) (done string, err error) {
	thumbprint, err := access.ParseThumbprint(text)
	if err != nil {
		return "", &mistake{err, badThumbprint}
	}
	if err := i.revocations.add(store.Revocation{
		Kind: revocation.Certificate, Subject: thumbprint.String(), Actor: by.actor, Reason: by.reason,
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("revoked the certificate %s and every token bound to it", thumbprint), nil
}
