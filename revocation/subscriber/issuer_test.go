package subscriber

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/issuer/feed"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// A realIssuer publishes the log of a store on disk by the issuer's own feed.
type realIssuer struct {
	*issuerServer
	folder string
	store  *store.File
	feed   atomic.Pointer[feed.Feed]
	stop   func()
}

func newRealIssuer(t testing.TB) *realIssuer {
	t.Helper()
	r := &realIssuer{folder: t.TempDir()}
	r.issuerServer = newIssuer(t, func(c *connection) {
		at, _ := revocation.ParsePosition(c.request.Header.Get("Last-Event-ID"))
		if err := r.feed.Load().Serve(c.ResponseWriter, c.request, feed.Subscription{ClientID: "orders-gate", Position: at, Recheck: func() error { return nil }}); err != nil {
			c.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// start opens the store and publishes its log.
func (r *realIssuer) start() {
	r.t.Helper()
	set := revocation.NewSet()
	var err error
	if r.store, err = store.Open(r.folder); err != nil {
		r.t.Fatal(err)
	}
	published, err := feed.New(feed.Options{
		Issuer: issuer, KeyVersion: func() uint64 { return 1 }, Set: set, Complete: func() error { return nil }, Sign: sign,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	check(r.t, err)
	r.feed.Store(published)
	ctx, cancel := context.WithCancel(context.Background())
	var follow sync.WaitGroup
	follow.Go(func() {
		err := r.store.Follow(ctx, func(page store.Page) {
			for i := range page.Additions {
				if err := set.Add(page.Additions[i].Entry()); err != nil {
					r.t.Error(err)
				}
			}
			published.Publish(page)
		})
		if err != nil {
			r.t.Errorf("Follow = %v, want nil", err)
		}
	})
	r.stop = sync.OnceFunc(func() {
		published.End()
		cancel()
		follow.Wait()
		if err := r.store.Close(); err != nil {
			r.t.Error(err)
		}
	})
}

func sign(typ string, claims jwt.Claims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["typ"], token.Header["kid"] = typ, key.KeyID
	return token.SignedString(key.Key)
}

func (r *realIssuer) revoke(jti string) {
	r.t.Helper()
	e := token(jti)
	check(r.t, r.store.Revoke(store.Revocation{Kind: e.Kind, Subject: e.Subject, Until: e.Until}))
}

// A gate follows the issuer's own feed: revocations from before the start, live revocations, many revocations at once, and
// a snapshot after a restart of the issuer, which begins another epoch.
func TestRealIssuer(t *testing.T) {
	r := newRealIssuer(t)
	r.revoke("before")
	g := r.follow(t)
	g.current()
	g.refuses("before")
	r.revoke("live")
	g.refuses("live")
	for i := range 30 {
		r.revoke(fmt.Sprint("many ", i))
	}
	g.refuses("many 29")
	before := g.Status().Position.Epoch
	r.stop()
	r.start()
	r.revoke("after the restart")
	g.refuses("after the restart")
	gatetest.Eventually(t, "the end of the snapshot", func() bool { return g.Status().Position.Epoch != before })
	fresh := r.follow(t) // from the snapshot alone
	fresh.current()
	for _, jti := range []string{"before", "live", "many 0", "many 29", "after the restart"} {
		if !fresh.revoked(jti) {
			t.Errorf("the token %s is not revoked", jti)
		}
	}
	if got := fresh.count(invalidResult) + fresh.count(gap) + g.count(invalidResult); got != 0 {
		t.Errorf("%v messages were invalid, or after a gap, want none", got)
	}
}
