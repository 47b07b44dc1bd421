package introspect

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// refusing responds as an authorization server to a client with a wrong secret.
func refusing(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"no client has the secret s3cret/+%"}`))
}

// A server that refuses the gate's credentials makes the client unready, from the start and until
// the server accepts them; the log quotes the server's error. Other errors do not make the client
// unready.
func TestCredentials(t *testing.T) {
	a := newAuthority(t)
	log := &gatetest.Log{}
	basic := func(s *config.AuthorizationServer) {
		s.Introspection.Authentication = config.IntrospectionAuthentication{Method: config.MethodSecretBasic, SecretFile: a.path("secret")}
	}
	gate := a.client(basic)
	gate.log = slog.New(slog.NewJSONHandler(log, nil))
	if err := gate.Ready(); err == nil {
		t.Error("Ready() = nil before a check, want an error")
	}
	a.serve(refusing)
	if err := gate.CheckCredentials(t.Context()); err == nil || !strings.Contains(err.Error(), `with status 401: "invalid_client": "no client has the secret …"`) {
		t.Errorf("CheckCredentials() = %v, want the server's error", err)
	}
	if err := gate.Ready(); err == nil || strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("Ready() = %v, want an error without the server's words", err)
	}
	if token := a.request().PostFormValue("token"); len(token) < 20 {
		t.Errorf("the check introspected token %q, want a random token", token)
	}
	// An inconclusive response changes nothing.
	a.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	if err := gate.CheckCredentials(t.Context()); err == nil || gate.Ready() == nil {
		t.Errorf("CheckCredentials() = %v, Ready() = %v", err, gate.Ready())
	}
	fresh := a.client(basic)
	if err := fresh.CheckCredentials(t.Context()); err == nil || fresh.Ready() != nil {
		t.Errorf("CheckCredentials() = %v, Ready() = %v", err, fresh.Ready())
	}
	a.responds(M{"active": false})
	if err := gate.CheckCredentials(t.Context()); err != nil || gate.Ready() != nil {
		t.Errorf("CheckCredentials() = %v, Ready() = %v", err, gate.Ready())
	}
	if text := log.String(); strings.Count(text, "credentials refused") != 1 || strings.Count(text, "credentials accepted") != 1 || strings.Contains(text, "s3cret") {
		t.Errorf("unexpected log:\n%s", text)
	}
}

// Run checks the credentials at the start, until the server accepts them, and after a refusal in
// the response to a client's token. That refusal alone, which the token may have caused, does not
// make the client unready.
func TestCredentialsAreCheckedAgain(t *testing.T) {
	a := newAuthority(t)
	gate := a.client(func(s *config.AuthorizationServer) { s.Introspection.Cache.MaxAge = 0 })
	gate.credentialCheck.interval = time.Millisecond
	a.serve(refusing)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		gate.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	ready := func() bool { return gate.Ready() == nil }
	gatetest.Eventually(t, "refused", func() bool { return gate.credentialCheck.refused.Load() })
	a.responds(M{"active": false})
	gatetest.Eventually(t, "ready", ready)
	a.serve(refusing)
	expect(t, gate, "opaque", access.IssuerUnavailable)
	gatetest.Eventually(t, "refused again", func() bool { return !ready() })
	a.responds(active())
	gatetest.Eventually(t, "ready again", ready)

	// The server refuses only the requests about one token.
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("token") == "evil" {
			refusing(w, r)
			return
		}
		reply200(w, "application/json", gatetest.JSON(active()))
	})
	for range 3 {
		before := a.calls.Load()
		expect(t, gate, "evil", access.IssuerUnavailable)
		gatetest.Eventually(t, "checked", func() bool { return a.calls.Load() > before+1 })
		if !ready() {
			t.Error("Ready() != nil after a refusal for one token, want nil")
		}
	}
	expect(t, gate, "opaque", access.Granted)
}

// An error response is quoted on one line, truncated, and without any part of the request's
// secrets.
func TestQuoteError(t *testing.T) {
	const token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJl"
	form := url.Values{"token": {token}, "client_assertion": {"short"}}
	header := http.Header{"Authorization": {"Basic Z2F0ZTpwJTJGcQ=="}} // gate:p%2Fq
	for body, want := range map[string]string{
		`{"error":"invalid_client"}`:                                              `: "invalid_client"`,
		`{"error":"invalid_request","error_description":"no such client"}`:        `: "invalid_request": "no such client"`,
		`{"error":"e","error_description":"token ` + token + ` is bad"}`:          `: "e": "token … is bad"`,
		`{"error":"e","error_description":"token='` + token[:30] + `' is bad"}`:   `: "e": "token='…' is bad"`,
		`{"error":"e","error_description":"p/q, p%2Fq, Z2F0ZTpwJTJGcQ==, short"}`: `: "e": "…, …, …, …"`,
		`{"error":"e\nlevel=ERROR","error_description":"\u001b[2J\u202e"}`:        `: "e\nlevel=ERROR": "\x1b[2J\u202e"`,
		`{"error":7,"error_description":["x"]}`:                                   "",
		`{"error":null,"error_description":""}`:                                   "",
		`{"error":"a","error":"b"}`:                                               "",
		`<html>`:                                                                  "",
		``:                                                                        "",
	} {
		answer := &fetch.Response{Status: 400, MediaType: "application/json", Body: []byte(body)}
		if got := quoteError(answer, secretsOf(form, header)); got != want {
			t.Errorf("quoteError(%s) = %s, want %s", body, got, want)
		}
	}
	long := `{"error":"` + strings.Repeat("a b ", 10_000) + `"}`
	if got := quoteError(&fetch.Response{MediaType: "application/json", Body: []byte(long)}, nil); len(got) > 300 {
		t.Errorf("quoteError returned %d bytes, want at most 300", len(got))
	}
	if got := quoteError(&fetch.Response{MediaType: "text/html", Body: []byte(`{"error":"e"}`)}, nil); got != "" {
		t.Errorf("quoteError of HTML = %s, want \"\"", got)
	}
}
