package proxy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// With sampling, a log line of a granted request says for how many requests it stands. Each refused or
// failed request has its own line, and all requests are counted.
func TestSampledLogLines(t *testing.T) {
	var status atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code := int(status.Load())
		if code == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(code)
	}))
	defer upstream.Close()
	for sampling, edit := range map[bool]func(*config.Config){
		true:  func(cfg *config.Config) { cfg.Log = config.Default().Log },
		false: func(cfg *config.Config) { cfg.Log.Granted = config.LogAll },
	} {
		log := &gatetest.Log{}
		s := newHarness(t, upstream.URL, log, edit)
		call := func(n, want int, edits ...func(*http.Request)) {
			t.Helper()
			for range n {
				r, w := s.request(), httptest.NewRecorder()
				for _, edit := range edits {
					edit(r)
				}
				if s.proxy.ServeHTTP(w, r); w.Code != want {
					t.Fatalf("got %d", w.Code)
				}
			}
		}
		const granted, refused, failed = 100, 7, 3
		began := time.Now()
		status.Store(http.StatusOK)
		call(granted, http.StatusOK)
		call(refused, http.StatusForbidden, func(r *http.Request) { r.Method = http.MethodDelete })
		status.Store(0)
		call(failed, http.StatusBadGateway)
		seconds := int(time.Since(began)/time.Second) + 2
		status.Store(http.StatusOK)
		if sampling { // a second later, the log has the number of requests without a line
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		}
		call(1, http.StatusOK)

		got := map[string]int{}
		suppressed := 0
		for line := range strings.Lines(log.String()) {
			var fields struct {
				Reason, Failure string
				Suppressed      int
			}
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			got[fields.Reason+fields.Failure]++
			suppressed += fields.Suppressed
		}
		switch {
		case got["api_not_allowed"] != refused || got["grantedupstream_reset"] != failed:
			t.Errorf("sampling %t: lines by reason: %v", sampling, got)
		case got["granted"]+suppressed != granted+1:
			t.Errorf("sampling %t: %d lines that stand for %d more, of %d requests", sampling, got["granted"], suppressed, granted+1)
		case sampling && (got["granted"] > seconds+1 || suppressed == 0), !sampling && suppressed != 0:
			t.Errorf("sampling %t: %d lines in %d seconds, %d suppressed", sampling, got["granted"], seconds, suppressed)
		}
	}
}
