package securityevents

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

const secret = "Bearer 9f8e7d"

// pushServer serves r as the issuer's listener does, with any client certificate.
func pushServer(t *testing.T, r *receiver) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(r.Receiver)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// pushed returns a receiver to which s pushes, with its server.
func (s *transmitter) pushed(t *testing.T, edits ...func(*config.AuthorizationServer)) (*receiver, *httptest.Server) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "authorization")
	gatetest.WriteFile(t, file, []byte(secret+"\n"))
	r := s.receiver(t, append([]func(*config.AuthorizationServer){func(c *config.AuthorizationServer) {
		c.SecurityEvents.Poll = nil
		c.SecurityEvents.Push = &config.SecurityEventsPush{Path: "/security-events/partners", AuthorizationFile: config.Path(file)}
	}}, edits...)...)
	return r, pushServer(t, r)
}

// push sends a request and returns the status and the error code in the answer.
func push(t *testing.T, client *http.Client, url, method, authorization, mediaType, body string) (int, code) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", mediaType)
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e pollError
	if response.StatusCode == http.StatusBadRequest {
		if err := json.Unmarshal(content, &e); err != nil || response.Header.Get("Content-Type") != "application/json" || response.Header.Get("Content-Language") == "" || e.Description == "" {
			t.Errorf("error message %q: %v; want the JSON of RFC 8935 section 2.3", content, err)
		}
	} else if len(content) > 0 {
		t.Errorf("status %d with the body %q, want none", response.StatusCode, content)
	}
	return response.StatusCode, e.Code
}

// RFC 8935 section 2, one line for each answer.
func TestPush(t *testing.T) {
	const media = "application/secevent+jwt"
	s := newTransmitter(t)
	r, server := s.pushed(t)
	good := s.sign(revoked("1"))
	for _, c := range []struct {
		name, method, authorization, mediaType, body string
		status                                       int
		code                                         code
	}{
		{"an event", "POST", secret, media, good, 202, ""},
		{"the same event again", "POST", secret, media, good, 202, ""},
		{"an event that is ignored", "POST", secret, media, s.sign(revoked("2", M{"events": M{"x": M{}}})), 202, ""},
		{"GET", "GET", secret, media, "", 405, ""},
		{"no authorization", "POST", "", media, good, 400, authenticationFailed},
		{"another secret", "POST", secret + "x", media, good, 400, authenticationFailed},
		{"the beginning of the secret", "POST", secret[:8], media, good, 400, authenticationFailed},
		{"another media type", "POST", secret, "application/jwt", good, 400, invalidRequest},
		{"no media type", "POST", secret, "", good, 400, invalidRequest},
		{"large", "POST", secret, media, strings.Repeat("x", maxToken+1), 400, invalidRequest},
		{"empty", "POST", secret, media, "", 400, invalidRequest},
		{"an access token", "POST", secret, media, s.key.Token(revoked("1")), 400, invalidRequest},
		{"another key", "POST", secret, media, testpki.NewSigner("ES256", "k1").Token(revoked("1"), M{"typ": "secevent+jwt"}), 400, invalidKey},
		{"another audience", "POST", secret, media, s.sign(revoked("1", M{"aud": "x"})), 400, invalidAudience},
		{"another issuer", "POST", secret, media, s.sign(revoked("1", M{"iss": "x"})), 400, invalidIssuer},
	} {
		if status, code := push(t, server.Client(), server.URL, c.method, c.authorization, c.mediaType, c.body); status != c.status || code != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, status, code, c.status, c.code)
		}
	}
	if n := len(r.entries()); n != 2 {
		t.Errorf("%d revocations are stored, want 2", n)
	}
	if n, err := testutil.GatherAndCount(r.registry, "tallygate_security_events_last_success_timestamp_seconds"); err != nil || n > 0 {
		t.Errorf("%d series of the time of polls (%v), want none without polls", n, err)
	}
	if strings.Contains(r.log.String(), "9f8e7d") || strings.Contains(r.log.String(), "alice") {
		t.Errorf("the log has a secret or a subject:\n%s", r.log.String())
	}
}

// An event that cannot be stored gets 503, and the revocations are stale until an event is stored.
func TestPushStoresFirst(t *testing.T) {
	s := newTransmitter(t)
	r, server := s.pushed(t)
	if err := r.Current(); err != nil {
		t.Errorf("Current without polls: %v, want nil", err)
	}
	r.fail(errors.New("no space left"))
	good := s.sign(revoked("1"))
	if status, _ := push(t, server.Client(), server.URL, "POST", secret, "application/secevent+jwt", good); status != 503 || r.Current() == nil {
		t.Errorf("status %d and Current %v, want 503 and stale", status, r.Current())
	}
	r.fail(nil)
	if status, _ := push(t, server.Client(), server.URL, "POST", secret, "application/secevent+jwt", good); status != 202 || r.Current() != nil {
		t.Errorf("status %d and Current %v, want 202 and nil", status, r.Current())
	}
}

// While an event cannot be stored, tokens that revoke nothing and tokens that are refused get their answers, and the
// revocations stay stale. A token that got 503 and is ignored at the next attempt no longer makes the revocations stale.
func TestPushStaysStale(t *testing.T) {
	s := newTransmitter(t)
	r, server := s.pushed(t)
	send := func(raw string, want int, stale bool) {
		t.Helper()
		status, _ := push(t, server.Client(), server.URL, "POST", secret, "application/secevent+jwt", raw)
		if status != want || (r.Current() != nil) != stale {
			t.Errorf("status %d and Current %v, want %d and stale: %t", status, r.Current(), want, stale)
		}
	}
	r.fail(errors.New("no space left"))
	lost := s.sign(revoked("1"))
	send(lost, 503, true)
	send(s.sign(revoked("2", M{"events": M{verification: M{}}})), 202, true)
	send(s.sign(revoked("3", M{"aud": "x"})), 400, true)
	r.fail(nil)
	send(lost, 202, false)
	ignorable := s.sign(revoked("4", M{"events": M{verification: M{}}}))
	r.unstored.add(ignorable) // as when the key set is not known
	send(ignorable, 202, false)
	for n := range maxUnstored + 10 {
		r.unstored.add(fmt.Sprint(n))
	}
	for n := range maxUnstored + 10 {
		r.unstored.remove(fmt.Sprint(n), false)
	}
	send(ignorable, 202, true)
	send(lost, 202, false)
}

// Requests without the server's credentials do not fill the log, and each request is counted.
func TestPushLog(t *testing.T) {
	s := newTransmitter(t)
	r, server := s.pushed(t)
	for range 50 {
		push(t, server.Client(), server.URL, "POST", "Bearer x", "application/secevent+jwt", "x")
	}
	if lines := strings.Count(r.log.String(), "security event refused"); lines > 5 || lines == 0 || r.count(invalid) != 50 {
		t.Errorf("%d log lines and %d counted for 50 refused requests, want 1 to 5 and 50", lines, r.count(invalid))
	}
}

// With thumbprints, only a listed client certificate that is valid now is accepted.
func TestPushCertificate(t *testing.T) {
	listed, other := testpki.SelfSigned("server"), testpki.SelfSigned("other")
	expired := testpki.SelfSigned("expired", testpki.Valid(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)))
	thumbprint := func(p *testpki.Pair) access.Thumbprint {
		parsed, err := access.ParseThumbprint(p.Thumbprint())
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	s := newTransmitter(t)
	r, server := s.pushed(t, func(c *config.AuthorizationServer) {
		c.SecurityEvents.Push.Thumbprints = []access.Thumbprint{thumbprint(listed), thumbprint(expired)}
	})
	for name, c := range map[string]struct {
		shown  *testpki.Pair
		status int
	}{"listed": {listed, 202}, "other": {other, 400}, "expired": {expired, 400}, "none": {nil, 400}} {
		transport := server.Client().Transport.(*http.Transport).Clone()
		if c.shown != nil {
			transport.TLSClientConfig.Certificates = []tls.Certificate{c.shown.TLS()}
		}
		status, _ := push(t, &http.Client{Transport: transport}, server.URL, "POST", secret, "application/secevent+jwt", s.sign(revoked("1")))
		if transport.CloseIdleConnections(); status != c.status {
			t.Errorf("%s certificate: status %d, want %d", name, status, c.status)
		}
	}
	if n := len(r.entries()); n != 1 {
		t.Errorf("%d revocations are stored, want 1", n)
	}
}

// A receiver without credentials of the server, which the configuration refuses, accepts nothing.
func TestPushWithoutCredentials(t *testing.T) {
	s := newTransmitter(t)
	r, server := s.pushed(t)
	r.settings.Push = &config.SecurityEventsPush{Path: "/security-events/partners"}
	if status, code := push(t, server.Client(), server.URL, "POST", secret, "application/secevent+jwt", s.sign(revoked("1"))); code != authenticationFailed {
		t.Errorf("%d %s, want %s", status, code, authenticationFailed)
	}
}

// A reload does not forget that a pushed token could not be stored, whether or not it changes the settings or renames the server.
func TestUnstoredAfterReload(t *testing.T) {
	for name, edit := range map[string]func(*config.AuthorizationServer){
		"no change": func(*config.AuthorizationServer) {},
		"setting":   func(c *config.AuthorizationServer) { c.SecurityEvents.MaxStaleness += time.Second },
		"name":      func(c *config.AuthorizationServer) { c.Name = "renamed" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTransmitter(t)
			s.pool = new(reuse.Pool)
			before, server := s.pushed(t)
			raw := s.sign(revoked("1"))
			before.fail(errors.New("no space left"))
			if status, _ := push(t, server.Client(), server.URL, "POST", secret, "application/secevent+jwt", raw); status != http.StatusServiceUnavailable {
				t.Fatalf("status %d, want 503", status)
			}
			after, server := s.pushed(t, edit)
			if after.Current() == nil {
				t.Error("Current = nil after a reload, want an error: a security event could not be stored")
			}
			if status, _ := push(t, server.Client(), server.URL, "POST", secret, "application/secevent+jwt", raw); status != http.StatusAccepted || after.Current() != nil {
				t.Errorf("after the token was sent again: status %d, %v, want 202, nil", status, after.Current())
			}
		})
	}
}
