package accesslog

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/history"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/policy"
)

// newTestRecorder returns a Recorder with a history, whose log discards all lines.
func newTestRecorder(t testing.TB) (*Recorder, *history.History) {
	t.Helper()
	metrics := NewMetrics(nil)
	metrics.History = history.New()
	lease := new(reuse.Pool).Lease()
	t.Cleanup(lease.Release)
	cfg := config.Default()
	cfg.Partners.List = []config.Partner{{Name: "northwind"}}
	return NewRecorder(lease, cfg, slog.New(slog.DiscardHandler), metrics), metrics.History
}

func grantedEntry() *Entry {
	return &Entry{
		Decision: &access.Decision{Reason: access.Granted, Partner: "northwind", ClientID: "ledger"}, API: "accounts", Route: "/accounts/{id}",
		Caller: policy.Caller{Partner: "northwind"}, Certificate: &access.Certificate{Leaf: &x509.Certificate{}, Thumbprint: access.Thumbprint{1}},
		Started: time.Now(), Duration: time.Millisecond, Status: 200,
	}
}

func TestGrantedRequestsAllocateNothingForTheHistory(t *testing.T) {
	r, h := newTestRecorder(t)
	e := grantedEntry()
	r.Record(t.Context(), e)
	if n := testing.AllocsPerRun(100, func() { r.Record(t.Context(), e) }); n != 0 {
		t.Errorf("a granted request allocates %v times, want 0", n)
	}
	if seen := h.Certificates("northwind"); len(seen) != 1 || seen[0].ClientID != "ledger" {
		t.Errorf("the history has the certificates %+v, want that of ledger", seen)
	}
}

// The history has exactly the fields of the log line, even if the log leaves out the level.
func TestHistoryHasTheLogLine(t *testing.T) {
	r, h := newTestRecorder(t)
	e := grantedEntry()
	e.Certificate = nil
	e.Decision = &access.Decision{Reason: access.Expired, ClientID: "ledger", Err: errors.New("exp: want later, got earlier")}
	e.Host, e.Method, e.Target, e.RequestID, e.Status = strings.Repeat("h", 1000), "GET", "/accounts/7?access_token=secret", "1f0c", 401
	e.Route = policy.Unmatched
	r.Record(t.Context(), e)
	e.Decision, e.Failure = grantedEntry().Decision, UpstreamTimeout
	r.Record(t.Context(), e)
	e.Failure = ClientClosed
	r.Record(t.Context(), e)

	all := h.Refusals("northwind")
	if len(all) != 3 || all[0].Kind.Reason != "client_closed" || all[1].Kind.Reason != "upstream_timeout" || all[2].Kind.Reason != "expired" {
		t.Fatalf("the refusals are %+v, want client_closed, upstream_timeout and expired", all)
	}
	for _, f := range all[2].Fields {
		if strings.Contains(f.Value, "secret") || len(f.Value) > 300 {
			t.Errorf("the field %s is %q, want no query and at most 300 bytes", f.Key, f.Value)
		}
	}
	for key, want := range map[string]string{"path": "/accounts/7", "request_id": "1f0c", "error": "exp: want later, got earlier", "status": "401", "msg": "request"} {
		if got := all[2].Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	_, counts := h.Partner("northwind", time.Now())
	if got := [3]int{counts.Sum(history.Granted, 60), counts.Sum(history.Refused, 60), counts.Sum(history.Failed, 60)}; got != [3]int{1, 1, 1} {
		t.Errorf("granted, refused and failed are %v, want one each: a client that leaves fails nothing", got)
	}
}

// A partner that shows a stolen token cannot push that refusal out of the history by further refused requests.
func TestHistoryKeepsTokensOfOthers(t *testing.T) {
	for _, reason := range []access.Reason{access.BoundToOther, access.BoundToOtherKey} {
		r, h := newTestRecorder(t)
		e := grantedEntry()
		e.Decision = &access.Decision{Reason: reason, ClientID: "stolen"}
		r.Record(t.Context(), e)
		for n := range 200 {
			e.Decision = &access.Decision{Reason: access.Expired, ClientID: fmt.Sprint(n)}
			r.Record(t.Context(), e)
		}
		if !slices.ContainsFunc(h.Refusals("northwind"), func(r *history.Refusal) bool { return r.Kind.ClientID == "stolen" }) {
			t.Errorf("the refusal with %s is lost after 200 other refusals", reason)
		}
	}
}

func BenchmarkRecordGranted(b *testing.B) {
	for _, on := range []string{"off", "on"} {
		b.Run("console "+on, func(b *testing.B) {
			r, _ := newTestRecorder(b)
			if on == "off" {
				r.metrics.History = nil
			}
			e := grantedEntry()
			b.ReportAllocs()
			for b.Loop() {
				r.Record(b.Context(), e)
			}
		})
	}
}
