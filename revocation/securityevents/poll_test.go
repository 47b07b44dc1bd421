package securityevents

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/revocation"
)

// Every token is reported once: acknowledged after its revocations are stored, or with an error code (RFC 8936 section 2.4).
func TestPoll(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	s.add("good", s.sign(revoked("good")))
	s.add("other", s.sign(revoked("other", M{"events": M{risc + "account-enabled": M{}}})))
	s.add("verification", s.sign(revoked("verification", M{"events": M{ssf + "verification": M{}}, "sub_id": M{"format": "opaque", "id": "s"}})))
	s.add("email", s.sign(revoked("email", M{"sub_id": M{"format": "email", "email": "alice@example.com"}})))
	s.add("renamed", s.sign(revoked("another")))
	s.add("access", s.key.Token(revoked("access")))
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Current(); err != nil {
		t.Errorf("Current after a poll: %v, want nil", err)
	}
	if n := len(r.entries()); n != 2 { // good and renamed
		t.Errorf("%d revocations are stored, want 2", n)
	}
	if len(s.reported) != 2 || !s.reported[0].isEmpty() || !s.reported[0].ReturnImmediately || s.reported[0].MaxEvents != polledEvents {
		t.Fatalf("polls %+v, want two, and the first without a report", s.reported)
	}
	got := s.reported[1]
	if want := 3; len(got.Acknowledged) != want {
		t.Errorf("acknowledged %q, want good, other and verification", got.Acknowledged)
	}
	codes := map[string]code{}
	for id, e := range got.Errors {
		codes[id] = e.Code
	}
	if diff := cmp.Diff(map[string]code{"email": invalidRequest, "renamed": invalidRequest, "access": invalidRequest}, codes); diff != "" {
		t.Errorf("setErrs (-want +got):\n%s", diff)
	}
	for of, want := range map[result]int{applied: 2, ignored: 1, verified: 1, invalid: 2, failed: 0} {
		if got := r.count(of); got != want {
			t.Errorf("%d tokens are counted as %s, want %d", got, of, want)
		}
	}
	for _, secret := range []string{"alice", "example.com", "eyJ"} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log has %q, want neither subjects nor tokens:\n%s", secret, r.log.String())
		}
	}
	if !strings.Contains(r.log.String(), `"event_types":"session-revoked","result":"applied"`) {
		t.Errorf("the log lacks event type and result:\n%s", r.log.String())
	}
}

// The gate does not acknowledge a token whose revocation cannot be stored, so the server sends the token
// again.
func TestPollStoresFirst(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	s.add("1", s.sign(revoked("1")))
	for _, cause := range []error{errors.New("no space left"), revocation.ErrFull} {
		r.fail(cause)
		if err := r.poll(t.Context()); !errors.Is(err, cause) {
			t.Errorf("poll = %v, want %v", err, cause)
		}
	}
	if err := r.Current(); access.ReasonOf(err) != access.RevocationsStale || s.waiting() != 1 || r.count(failed) != 2 {
		t.Errorf("Current = %v with %d waiting and %d failed tokens, want stale with 1 and 2", err, s.waiting(), r.count(failed))
	}
	r.fail(nil)
	if err := r.poll(t.Context()); err != nil || s.waiting() != 0 || len(r.entries()) != 1 {
		t.Errorf("poll = %v with %d waiting and %d stored tokens, want nil, 0, 1", err, s.waiting(), len(r.entries()))
	}
}

// One call of poll empties a long stream, and an acknowledgement whose poll failed is sent again.
func TestPollDrains(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	for i := range 2*polledEvents + 1 {
		s.add(fmt.Sprint(i), s.sign(revoked(fmt.Sprint(i))))
	}
	if err := r.poll(t.Context()); err != nil || s.waiting() != 0 {
		t.Fatalf("poll = %v with %d waiting, want nil and 0", err, s.waiting())
	}
	polls := 0
	s.add("last", s.sign(revoked("last")))
	s.respond(func(w http.ResponseWriter, r *http.Request) {
		if polls++; polls == 2 {
			panic(http.ErrAbortHandler)
		}
		s.offer(w, r)
	})
	if err := r.poll(t.Context()); err == nil || s.waiting() != 1 {
		t.Errorf("poll = %v with %d waiting, want an error and 1", err, s.waiting())
	}
	if err := r.poll(t.Context()); err != nil || s.waiting() != 0 {
		t.Errorf("poll = %v with %d waiting, want nil and 0", err, s.waiting())
	}
}

// The revocations are stale before the first poll, and max_staleness after the beginning of the last poll that
// succeeded.
func TestStale(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	stale := func(want bool) {
		t.Helper()
		if err := r.Current(); (err != nil) != want || err != nil && access.ReasonOf(err) != access.RevocationsStale {
			t.Errorf("Current = %v, want stale %t", err, want)
		}
	}
	stale(true)
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	stale(false)
	s.respond(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusBadGateway) })
	r.clock.Store(int64(59 * time.Second))
	if err := r.poll(t.Context()); err == nil {
		t.Error("poll of a failing server = nil, want an error")
	}
	stale(false)
	r.clock.Store(int64(61 * time.Second))
	stale(true)
	s.respond(nil)
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	stale(false)
	r.clock.Store(0) // the clock jumps back
	stale(true)
	// While the server has more events, revocations are unknown.
	polls := 0
	r.clock.Store(int64(time.Hour))
	s.respond(func(w http.ResponseWriter, _ *http.Request) {
		polls++
		writeAnswer(w, M{"sets": M{}, "moreAvailable": true})
	})
	if err := r.poll(t.Context()); err != nil || polls != 1 {
		t.Errorf("poll = %v after %d polls, want nil after 1: a server without events is polled at the interval", err, polls)
	}
	stale(true)
}

// A response that breaks RFC 8936 is an error, is read up to a bound, and does not count as a successful
// poll.
func TestHostileAnswers(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	body := func(status int, mediaType, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}
	}
	const json = "application/json"
	many := `{"sets":{` + strings.TrimSuffix(strings.Repeat(`"1":"x",`, 5000), ",") + `}}`
	for name, answer := range map[string]http.HandlerFunc{
		"HTML":            body(200, "text/html", "<html>"),
		"no sets":         body(200, json, `{}`),
		"sets null":       body(200, json, `{"sets":null}`),
		"sets a list":     body(200, json, `{"sets":[]}`),
		"sets of objects": body(200, json, `{"sets":{"1":{}}}`),
		"sets twice":      body(200, json, `{"sets":{},"sets":{}}`),
		"empty":           body(200, json, ``),
		"204":             body(204, json, ``),
		"401":             body(401, json, `{"sets":{}}`),
		"500":             body(500, json, `{"sets":{}}`),
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		},
		"large":      body(200, json, `{"sets":{},"x":"`+strings.Repeat("x", maxAnswer)+`"}`),
		"deep":       body(200, json, `{"sets":{},"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`),
		"many":       body(200, json, many),
		"a long jti": body(200, json, `{"sets":{"`+strings.Repeat("x", maxText+1)+`":"x"}}`),
		"a content coding": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			writeAnswer(w, M{"sets": M{}})
		},
		"a closed connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		s.respond(answer)
		if err := r.poll(t.Context()); err == nil {
			t.Errorf("%s: poll = nil, want an error", name)
		}
	}
	if r.Current() == nil || len(r.entries()) != 0 {
		t.Errorf("Current = nil or %d stored revocations after hostile answers, want stale and none", len(r.entries()))
	}
}

// A server that offers the same event for ever keeps the receiver busy for a bounded number of polls.
func TestPollEnds(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	raw, polls := s.sign(revoked("1", M{"events": M{"x": M{}}})), 0
	s.respond(func(w http.ResponseWriter, _ *http.Request) {
		polls++
		writeAnswer(w, M{"sets": M{"1": raw}, "moreAvailable": true})
	})
	if err := r.poll(t.Context()); err != nil || polls != maxRounds {
		t.Errorf("poll = %v after %d polls, want nil after %d", err, polls, maxRounds)
	}
}

// The receiver polls again after the interval, waits while the server holds a poll open, and authenticates by
// each method.
func TestRun(t *testing.T) {
	s := newTransmitter(t)
	dir := t.TempDir()
	gatetest.WriteFile(t, filepath.Join(dir, "token"), []byte("t0ken\n"))
	gatetest.WriteFile(t, filepath.Join(dir, "secret"), []byte("s3cret/+\n"))
	for want, authentication := range map[string]config.PollAuthentication{
		"":                               {Method: config.PollTLS},
		"Bearer t0ken":                   {Method: config.PollBearer, TokenFile: config.Path(filepath.Join(dir, "token"))},
		"Basic Z2F0ZTpzM2NyZXQlMkYlMkI=": {Method: config.PollSecretBasic, ClientID: "gate", SecretFile: config.Path(filepath.Join(dir, "secret"))},
	} {
		t.Run(string(authentication.Method), func(t *testing.T) {
			s.respond(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != want {
					t.Errorf("Authorization %q, want %q", got, want)
				}
				s.offer(w, r)
			})
			r := s.receiver(t, func(c *config.AuthorizationServer) {
				c.SecurityEvents.Poll.Authentication, c.SecurityEvents.Poll.LongPoll = authentication, time.Second
			})
			r.Start()
			if err := r.Synced(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.add("event", s.sign(revoked("event")))
			gatetest.Eventually(t, "acknowledged", func() bool { return s.waiting() == 0 })
			if got := r.count(applied); got != 1 {
				t.Errorf("%d events are counted as applied, want 1", got)
			}
		})
	}
}

// A missing or empty secret is an error when the receiver is made, and later an error of the poll.
func TestCredentials(t *testing.T) {
	for _, a := range []config.PollAuthentication{
		{Method: config.PollBearer, TokenFile: "/nonexistent"}, {Method: config.PollSecretBasic, SecretFile: "/dev/null"}, {Method: "none"}, {},
	} {
		if got, err := authorization(&a); err == nil {
			t.Errorf("authorization(%+v) = %q, want an error", a, got)
		}
	}
}

// After a reload without an anchor, the time of the last poll does not count: an attacker who had the anchor may have
// answered the poll.
func TestDistrustedPoll(t *testing.T) {
	s := newTransmitter(t)
	rogue := filepath.Join(t.TempDir(), "rogue.pem")
	gatetest.WriteFile(t, rogue, testpki.NewCA("withdrawn CA").CertPEM())
	both := func(c *config.AuthorizationServer) {
		c.Connection.Trust = append(c.Connection.Trust, config.Path(rogue))
	}
	first, same, next := s.receiver(t, both), s.receiver(t, both), s.receiver(t)
	if !same.continues(first.Receiver) || !first.continues(next.Receiver) {
		t.Error("continues = false with the same anchors or another anchor, want true")
	}
	if next.continues(first.Receiver) {
		t.Error("continues = true without an anchor of the previous receiver, want false")
	}
}
