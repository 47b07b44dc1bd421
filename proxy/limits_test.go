package proxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/limits"
)

func limited(perSecond, burst int) func(*config.Config) {
	return func(cfg *config.Config) {
		cfg.Partners.List[0].Applications[0].RateLimit = &config.Rate{RequestsPerSecond: perSecond, Burst: burst}
	}
}

// Only a granted request takes a token of the rate limit. A request beyond the rate is refused and not
// forwarded, and a reload fills no bucket.
func TestRateLimit(t *testing.T) {
	var arrived atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	defer upstream.Close()
	const burst = 20
	s := newHarness(t, upstream.URL, t.Output(), limited(1, burst))
	call := func(edit func(*http.Request)) *httptest.ResponseRecorder {
		r, w := s.request(), httptest.NewRecorder()
		if edit != nil {
			edit(r)
		}
		s.current.Load().ServeHTTP(w, r)
		return w
	}
	for name, edit := range map[string]func(*http.Request){
		"without a token":      func(r *http.Request) { r.Header.Del("Authorization") },
		"for an unknown route": func(r *http.Request) { r.URL.Path, r.RequestURI = "/none", "/none" },
		"too long":             func(r *http.Request) { r.ContentLength = 1 << 40 },
	} {
		for range 2 * burst {
			if w := call(edit); w.Code < 400 || w.Code == http.StatusTooManyRequests {
				t.Fatalf("%s: status %d", name, w.Code)
			}
		}
	}
	for range burst / 2 {
		if w := call(nil); w.Code != http.StatusOK {
			t.Fatalf("within the rate: got %d %s, want 200", w.Code, w.Body)
		}
	}
	s.next(t, limited(1, burst))
	granted := burst / 2
	for began := time.Now(); ; granted++ {
		w := call(nil)
		if w.Code == http.StatusTooManyRequests {
			if w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"reason":"rate_limited"`) {
				t.Errorf("refusal has header %v, body %s", w.Header(), w.Body)
			}
			break
		}
		if most := burst + 1 + int(time.Since(began)/time.Second); w.Code != http.StatusOK || granted > most {
			t.Fatalf("got %d after %d granted requests, want at most %d", w.Code, granted, most)
		}
	}
	if n := arrived.Load(); n != int64(granted) {
		t.Errorf("%d requests at the upstream, %d granted", n, granted)
	}
	if n := s.inFlight(); n != 0 {
		t.Errorf("inFlight = %d after all requests, want 0", n)
	}
}

// A recheck takes no token and no slot, and does not end a stream for lack of either.
func TestStreamsBeyondTheirLimits(t *testing.T) {
	for kind, open := range flows {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			s := newHarness(t, up.URL, log, withTunnel, limited(1, 1))
			f := open(t, s, up)
			if n := s.inFlight(); n != 1 {
				t.Errorf("inFlight = %d", n)
			}
			s.proxy.slotsLeft = func() int64 { return -1 }
			for until := time.Now().Add(4 * s.streams.recheckInterval); time.Now().Before(until); time.Sleep(time.Millisecond) {
				var slots limits.Slots
				next := access.Decision{Reason: access.Granted, API: "accounts", Partner: "northwind", ClientID: "northwind-ledger"}
				s.proxy.limits.Admit(&next, 1, &slots)
				slots.Release("northwind")
				select {
				case err := <-up.left:
					t.Fatalf("stream ended: %v\n%s", err, log)
				default:
				}
			}
			s.revoked.Store(true)
			expectEnd(t, s, up, log, kind, f, "revoked")
			gatetest.EventuallyEqual(t, "inFlight after the end of the stream", 0, s.inFlight)
		})
	}
}
