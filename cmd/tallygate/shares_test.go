package main

import (
	"net/http"
	"testing"
)

// Long requests of one partner cannot block others: a partner may have as many concurrent requests
// as there are free slots. A reload frees no slot, and a finished request frees its slot.
func TestRequestsOfOnePartner(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	limits := "stall_timeout: 30s, requests: 8"
	r.configure("stall_timeout: 30s", limits)
	r.serve()
	r.upstream.behave("hang")
	const inFlight = `tallygate_requests_in_flight{listener="partners"}`
	northwind := &slow{reloading: r}
	northwind.connect(false, true)
	defer func() { _ = northwind.conn.Close() }()
	for stream := range uint32(4) {
		northwind.headers(2*stream+1, "GET", true)
	}
	r.check(r.expect(inFlight, 4))
	r.upstream.settle() // the concurrent requests have arrived
	more := []string{"-cert", "northwind", "-token", "good", "GET", "/accounts/7"}
	r.check(r.call(more))
	r.check(r.refused(http.StatusServiceUnavailable, "overloaded", ""))

	r.configure("stall_timeout: 30s", limits, "body_bytes: 64KiB", "body_bytes: 65KiB")
	r.await("ok", 1)
	r.check(r.call(more))
	r.check(r.refused(http.StatusServiceUnavailable, "overloaded", ""))

	// Another partner gets two slots, and then as many slots are free as the partner has.
	transport := &http.Transport{TLSClientConfig: r.client("borealis", "h2"), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	answers := make(chan int, 2)
	for i := range 2 {
		go func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.addresses["partners"]+"/accounts/7", nil)
			if err == nil {
				request.Host = "api.example.test"
				request.Header.Set("Authorization", "Bearer "+r.tokens["sync"])
				var answer *http.Response
				if answer, err = transport.RoundTrip(request); err == nil {
					_ = answer.Body.Close()
					answers <- answer.StatusCode
					return
				}
			}
			t.Error(err)
			answers <- 0
		}()
		r.check(r.expect(inFlight, float64(5+i)))
	}
	r.upstream.settle()
	r.check(r.call([]string{"-cert", "borealis", "-token", "sync", "GET", "/accounts/7"}))
	r.check(r.refused(http.StatusServiceUnavailable, "overloaded", ""))

	r.upstream.behave("echo")
	for range 2 {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("a request of the other is answered with %d", status)
		}
	}
	r.check(r.expect(inFlight, 0))
	r.check(r.call(more))
	r.check(r.granted(http.StatusOK))
	_ = northwind.conn.Close()
	r.check(r.stop())
}
