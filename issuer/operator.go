package issuer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/keyring"
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
	// Streams is the number of gates that had a stream open at this issuer when it answered. It is nil if the issuer does
	// not serve, or no gate may have a stream. Gates at other issuers with the same database are not counted.
	Streams *int `json:"streams,omitempty"`
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
			response, err := i.Revoke(request)
			response.Streams = i.openStreams()
			return response, err
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

// openStreams returns the number of gates that have a stream of revocations open, or nil if no gate may have a stream.
func (i *Issuer) openStreams() *int {
	if !slices.ContainsFunc(i.settings.ResourceServers, func(s config.ResourceServer) bool { return s.Revocations }) {
		return nil
	}
	n := i.feed.Status().Subscribers
	return &n
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
