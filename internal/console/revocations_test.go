package console

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
)

const feedSettings = settings + `
revocations: {server: keycloak, client_id: gate, max_staleness: 45s}
`

// newFeedBench returns a bench with a feed whose set is complete.
func newFeedBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, strings.Replace(feedSettings, "    key_set: {url:", "    connection: {certificate: {certificate: gate.pem, key: gate-key.pem}}\n    key_set: {url:", 1))
	b.state.Revocations = &Revocations{
		Feed:    &RevocationFeed{Host: "issuer-0.example.test:9444", Connected: true, Since: now.Add(-3 * time.Hour), Position: "4f2a:17", Synced: now.Add(-time.Second)},
		Entries: []RevocationEntries{{"token", 15}, {"partner", 2}},
		Events:  []RevocationEvent{{now.Add(-2 * time.Minute), "token", "dd6d9f54c50fd25b"}},
	}
	return b
}

func TestRevocationsPage(t *testing.T) {
	b := newFeedBench(t)
	body := b.page("/revocations")
	for _, want := range []string{"connected", "keycloak", "issuer-0.example.test:9444", "3 hours ago", "complete", "just now", "4f2a:17", "refuse", "45s", "tallygate.yaml:", "15", "dd6d9f54c50fd25b", "2 min ago"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if overview := b.page("/"); !strings.Contains(overview, "17 revocations") {
		t.Error("the overview lacks 17 revocations")
	}
	var twin struct {
		Feed struct {
			Server string
			Status struct{ Connected bool }
		}
		Entries []struct{ Count int }
	}
	if err := json.Unmarshal(b.get("/revocations?format=json").Body.Bytes(), &twin); err != nil || twin.Feed.Server != "keycloak" || !twin.Feed.Status.Connected || len(twin.Entries) != 2 {
		t.Errorf("the JSON is %+v (%v), want the feed of keycloak and two kinds", twin, err)
	}

	b.state.Revocations = &Revocations{Log: &RevocationLog{Position: "4f2a:17", Subscribers: 1024, Unknown: "reading the log: connection refused"}}
	body = b.page("/revocations")
	for _, want := range []string{"The issuer&#39;s log", "1,024 gates", "reading the log: connection refused", "4f2a:17"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page of an issuer lacks %q", want)
		}
	}

	b.state.Revocations = nil
	if body := b.page("/revocations"); !strings.Contains(body, "No source of revocations") {
		t.Error("the page of a gate without a source does not say so")
	}
	if strings.Contains(b.page("/"), "/revocations") {
		t.Error("the overview of a gate without a source leads to the page")
	}
}

// The notices about revocations have the thresholds of the alerts, and say what happens to requests.
func TestRevocationNotices(t *testing.T) {
	const stale = "since 2026-11-30T02:59:00Z no issuer has said that the revocations are complete"
	for _, tt := range []struct {
		name      string
		whenStale config.WhenRevocationsStale // "" for the default
		happens   func(*Revocations)
		critical  bool
		text      string // "" if there is nothing to notice
	}{
		{"complete", "", func(*Revocations) {}, false, ""},
		{"a stream that was lost a moment ago", "", func(r *Revocations) { r.Feed.Connected, r.Feed.Since = false, now.Add(-time.Minute) }, false, ""},
		{"no stream", "", func(r *Revocations) { r.Feed.Connected, r.Feed.Since = false, now.Add(-3*time.Minute) }, false, "no stream of revocations for 3 min"},
		{"stale", "", func(r *Revocations) { r.Feed.Stale = stale }, true, "may have missed a revocation: " + stale + ". It refuses every request with 503"},
		{"stale and continuing", "continue", func(r *Revocations) { r.Feed.Stale = stale }, true, "It decides by the revocations that it knows."},
		{"an issuer that cannot read", "", func(r *Revocations) { r.Feed, r.Log = nil, &RevocationLog{Unknown: "connection refused"} }, true, "The issuer may have missed a revocation: connection refused."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newFeedBench(t)
			if tt.whenStale != "" {
				b.state.Config.Revocations.WhenStale = tt.whenStale
			}
			tt.happens(b.state.Revocations)
			o := (&console{Source{State: func() *State { return &b.state }, History: b.history, Now: func() time.Time { return now }}}).view().overview()
			switch {
			case tt.text == "" && len(o.Notices) > 0:
				t.Errorf("notices %+v, want none", o.Notices)
			case tt.text != "" && (len(o.Notices) != 1 || o.Notices[0].Critical != tt.critical || !strings.Contains(o.Notices[0].Text, tt.text)):
				t.Errorf("notices %+v, want %q, critical: %t", o.Notices, tt.text, tt.critical)
			}
		})
	}
}

// hostileRevocations returns revocations whose texts are the hostile values, for TestHostileValues. No issuer stores
// such a subject of a revocation unless a client or partner has it as its name.
func hostileRevocations() *Revocations {
	r := &Revocations{Log: &RevocationLog{Position: strings.Join(hostile, ":"), Unknown: strings.Join(hostile, ":")}}
	for _, text := range hostile {
		r.Events = append(r.Events, RevocationEvent{now, "application", text})
		r.Entries = append(r.Entries, RevocationEntries{text, 1})
	}
	return r
}
