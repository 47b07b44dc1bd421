package upstream

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/reuse"
)

// RoundTrip returns only after Inform has returned, even if the context ends meanwhile. Otherwise
// Inform could write to the response of the next request on the client's connection.
func TestInformationalEndsBeforeRoundTrip(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		<-r.Context().Done()
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var pool reuse.Pool
	lease := pool.Lease()
	defer lease.Release()
	u, err := New(lease, "api", config.Upstream{URL: &config.UpstreamURL{URL: *at}, Protocol: config.H2C, Timeout: time.Minute}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	returned := make(chan struct{})
	inside := make(chan bool, 1)
	_, err = func() (*Response, error) {
		defer close(returned)
		return u.RoundTrip(ctx, &Request{Method: http.MethodGet, Target: "/", Host: "api.test", Informer: informer(func(int, []http1.Field) error {
			cancel()
			select {
			case <-returned:
				inside <- true
			case <-time.After(100 * time.Millisecond):
				inside <- false
			}
			return io.EOF
		})})
	}()
	if err == nil {
		t.Error("RoundTrip returned no error, want the end of the context")
	}
	u.CloseIdleConnections()
	if <-inside {
		t.Error("RoundTrip returned while Inform ran")
	}
}
