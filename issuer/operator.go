package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// RevocationRequest is the body of POST /revocations. Exactly one of Token, Application, Partner and Thumbprint must be
// set.
type RevocationRequest struct {
	Token       string `json:"token,omitempty"`       // revokes an access token of this issuer
	Application string `json:"application,omitempty"` // a client_id: revokes every token issued to the client so far
	Partner     string `json:"partner,omitempty"`     // a partner's name: revokes every token issued to the partner's applications so far
	Thumbprint  string `json:"thumbprint,omitempty"`  // x5t#S256: revokes the certificate and every token bound to it, for ever

	Reason string `json:"reason,omitempty"` // for the audit record; optional
	// Actor is who requests the revocation: [OperatorActor] or [UserActor]. A client cannot send it.
	Actor string `json:"-"`
}

// OperatorActor returns the actor for the operator with a configured name.
func OperatorActor(name string) string { return "operator:" + name }

// UserActor returns the actor for a user of the machine that runs the issuer or the command.
func UserActor(name string) string { return "user:" + name }

// RevocationResponse is the answer to POST /revocations.
type RevocationResponse struct {
	Done string `json:"done"` // the token, application, partner or certificate that was revoked, in words
}

// TokenRequest is the body of POST /introspect.
type TokenRequest struct {
	Token string `json:"token"`
}

// TokenResponse is the answer to POST /introspect. Claims is zero if Active is false.
type TokenResponse struct {
	Active bool             `json:"active"`
	Claims access.Unchecked `json:"claims,omitzero"`
}

// RevokedResponse is the answer to POST /revoked. The body of the request is an [access.Unchecked].
type RevokedResponse struct {
	By revocation.Kind `json:"by"` // 0: the token is not revoked
}

// maxOperatorBody bounds a request: 16 KiB for the longest token, and 4 KiB for the other members,
// are 20 KiB.
const maxOperatorBody = 20 << 10

// ServeOperator serves the operations for the operator's commands: POST and GET /revocations, GET
// /keys and POST /keys/rotate, and for explain GET /jwks, POST /introspect and POST /revoked. It does not
// authenticate its callers, so it must be served only on a socket that only the operator can open. The remote address
// of r is the actor of the audit record: [UserActor] of the user at the other end of the socket. If
// an operation fails, the answer has status 422 and the error as text.
func (i *Issuer) ServeOperator(w http.ResponseWriter, r *http.Request) { i.operator.ServeHTTP(w, r) }

func (i *Issuer) operatorMux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /revocations", func(w http.ResponseWriter, r *http.Request) {
		serveJSON(func(request RevocationRequest) (RevocationResponse, error) {
			request.Actor = r.RemoteAddr
			return i.Revoke(request)
		})(w, r)
	})
	mux.HandleFunc("GET /revocations", i.serveRevocations)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, i.SigningKeys()) })
	mux.HandleFunc("POST /keys/rotate", func(w http.ResponseWriter, _ *http.Request) { writeResult(w, i.RotateKeys) })
	mux.HandleFunc("GET /jwks", i.serveKeySet)
	mux.HandleFunc("POST /introspect", serveJSON(func(request TokenRequest) (TokenResponse, error) {
		claims, active, err := i.Resolve(request.Token)
		if err != nil {
			i.logOperation("", err)
		}
		return TokenResponse{active, claims}, err
	}))
	mux.HandleFunc("POST /revoked", serveJSON(func(token access.Unchecked) (RevokedResponse, error) {
		by, err := i.RevokedBy(token)
		return RevokedResponse{by}, err
	}))
	return mux
}

// serveJSON returns a handler that decodes the body, calls operation with it and writes the result of
// operation.
func serveJSON[Request, Response any](operation func(Request) (Response, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request Request
		content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOperatorBody))
		if err == nil {
			err = json.Unmarshal(content, &request)
		}
		if err != nil { // the answer does not have err, which may quote a token
			http.Error(w, "the request body is too large or not the expected JSON", http.StatusBadRequest)
			return
		}
		writeResult(w, func() (Response, error) { return operation(request) })
	}
}

func writeResult[Response any](w http.ResponseWriter, operation func() (Response, error)) {
	response, err := operation()
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	writeJSON(w, http.StatusOK, response)
}

// SigningKeys returns the status of every published signing key.
func (i *Issuer) SigningKeys() []keyring.Status { return i.keys.Keys() }

// RotateKeys makes the next key the active key and returns the status of every published key. When it
// returns, the rotation is durable.
func (i *Issuer) RotateKeys() ([]keyring.Status, error) {
	if err := i.keys.Rotate(); err != nil {
		err = fmt.Errorf("rotating the signing keys: %w", err)
		i.logOperation("", err)
		return nil, err
	}
	i.logOperation("rotated the signing keys", nil)
	return i.keys.Keys(), nil
}

// Revoke revokes the token, application, partner or certificate that request names. When it returns,
// the revocation is durable. If a token was not issued by this issuer or has expired, Revoke returns
// no error, and the response says so.
func (i *Issuer) Revoke(request RevocationRequest) (RevocationResponse, error) {
	done, err := i.revokeRequested(request)
	i.logOperation(done, err, request.logAttributes()...)
	return RevocationResponse{done}, err
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

func (i *Issuer) logOperation(done string, err error, attributes ...slog.Attr) {
	level := slog.LevelInfo
	attributes = append(attributes, slog.Bool("granted", err == nil))
	if err != nil {
		level = slog.LevelWarn
		attributes = append(attributes, slog.String("error", access.Truncate(err.Error())))
	} else {
		attributes = append(attributes, slog.String("done", done))
	}
	i.log.LogAttrs(context.Background(), level, "operator request", attributes...)
}

// A mistake is the error of an operation that the operator has mistyped. The text quotes the request; an answer over
// mutual TLS has the words of the fault in its place.
type mistake struct {
	error
	fault fault
}

func (m *mistake) Unwrap() error { return m.error }

var errOneMember = &mistake{errors.New("want exactly one of token, application, partner and thumbprint"), malformedOperation}

// revokeRequested does the work of Revoke. done says in words what was revoked.
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

// An author is who revokes, and why, for the audit record.
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

// revokeIssued revokes the tokens issued to subject so far. Times in tokens are whole seconds, so
// tokens that are issued later in the same second are revoked too. If the clock was set back, or the
// clock of another process is ahead, tokens with an iat ahead of the clock are revoked too. The revocation is never removed, because tokens of
// other servers may live longer than our own. There is at most one such revocation for each name.
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
