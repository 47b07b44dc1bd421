package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// With few file descriptors, long requests leave enough of them for everything else: further
// requests get 503, and no connection to the upstream fails. Probes are answered, and a reload can
// read its files.
func TestRequestsThatTakeDescriptors(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	limited := filepath.Join(r.dir, "limited")
	r.check(os.WriteFile(limited, fmt.Appendf(nil, "#!/bin/sh\nulimit -n 256\nexec %s \"$@\"\n", binary(t)), 0o700))
	r.check(r.start(limited, filepath.Join(r.dir, "gate.yaml")))
	transports := make([]*http.Transport, 4)
	send := func(i int) int {
		request := accountRequest(t.Context(), r.addresses["partners"], r.tokens[[]string{"good", "sync"}[i%2]])
		answer, err := transports[i].RoundTrip(request)
		if err != nil {
			t.Errorf("connection %d: %v", i, err)
			return 0
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	for i := range transports { // one connection each, over HTTP/2
		transports[i] = &http.Transport{TLSClientConfig: r.client([]string{"northwind", "borealis"}[i%2], "h2"), ForceAttemptHTTP2: true}
		defer transports[i].CloseIdleConnections()
		if status := send(i); status != http.StatusOK {
			t.Fatalf("connection %d: %d", i, status)
		}
	}
	r.upstream.behave("hang")
	const each = 100 // 100 of the 128 streams of a connection
	statuses := make(chan int, len(transports)*each)
	for i := range cap(statuses) {
		go func() { statuses <- send(i / each) }()
	}
	got := map[int]int{}
	for shed := false; !shed; {
		select {
		case status := <-statuses:
			got[status]++
		case <-time.After(500 * time.Millisecond):
			shed = true
		}
	}
	(&drained{r}).becomes("/readyz", http.StatusOK)
	r.configure("body_bytes: 64KiB", "body_bytes: 65KiB")
	r.await("ok", 1)
	r.upstream.behave("echo")
	for n := got[http.StatusServiceUnavailable] + got[http.StatusOK] + got[http.StatusBadGateway]; n < cap(statuses); n++ {
		got[<-statuses]++
	}
	if got[http.StatusServiceUnavailable] == 0 || got[http.StatusOK] < 40 || got[http.StatusOK]+got[http.StatusServiceUnavailable] != 400 {
		t.Errorf("of 400 requests at once, by status: %v, want 200 and 503 alone", got)
	}
	r.check(r.stop())
}
