package jwks

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuer = gatetest.Issuer

type M = testpki.M

var null = json.RawMessage("null") // a null member; a nil member is left out

// every has all algorithms that can be accepted.
var every = []config.Algorithm{
	config.ES256, config.ES384, config.ES512, config.PS256, config.PS384, config.PS512, config.RS256, config.RS384, config.RS512, config.EdDSA, config.Ed25519,
}

var partner = testpki.NewCA("Northwind CA").Leaf("ledger.northwind.example")

// localKeySet returns a key set of our own issuer that never changes.
func localKeySet(document []byte) LocalKeySet {
	return func() ([]byte, uint64) { return document, 1 }
}

// options returns the options of a source without a network.
func options(local LocalKeySet) Options {
	return Options{Local: local, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(nil), Now: time.Now, Lease: new(reuse.Pool).Lease()}
}

// newSource returns the key set of a server. It is fetched if s has neither keys nor a file.
func newSource(t testing.TB, local LocalKeySet, s config.AuthorizationServer) *Source {
	t.Helper()
	return logged(t, local, s, slog.New(slog.DiscardHandler))
}

func logged(t testing.TB, local LocalKeySet, s config.AuthorizationServer, log *slog.Logger) *Source {
	t.Helper()
	return after(t, new(reuse.Pool), local, s, log)
}

// after returns the Source that New makes of s for the next lease of pool.
func after(t testing.TB, pool *reuse.Pool, local LocalKeySet, s config.AuthorizationServer, log *slog.Logger) *Source {
	t.Helper()
	o := options(local)
	o.Lease = pool.Lease()
	t.Cleanup(o.Lease.Release)
	o.Log = log
	if local == nil && s.KeySet.File == "" && s.KeySet.JWKS == "" {
		var err error
		o.Remote, err = authserver.New(s, authserver.Options{Log: log, Metrics: authserver.NewMetrics(nil), Now: time.Now, Lease: o.Lease})
		if err != nil {
			t.Fatal(err)
		}
	}
	source, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// bound returns the claims of a good token.
func bound(edits ...M) M {
	return testpki.Bound(issuer, "https://api.example", "northwind-ledger", partner, edits...)
}

// expect verifies raw and compares the reason, Granted without an error. An error that wraps no
// Denial fails the test.
func expect(t testing.TB, s *Source, raw string, want access.Reason) {
	t.Helper()
	jws, err := Parse(raw)
	if err == nil {
		_, _, err = s.Verify(t.Context(), jws, MediaTypes("at+jwt"), time.Now())
	}
	if got := gatetest.Reason(t, err); got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}
