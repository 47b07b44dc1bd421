package issuer_test

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/store"
)

// T-ADD-16: a client that has used its share of the stored tokens gets an error with
// Retry-After. Its tokens stay valid, other clients get tokens, and the client gets tokens again
// after its tokens have expired.
func TestOpaqueTokenShare(t *testing.T) {
	s := newHarness(t, "", opaque, func(cfg *config.Config) {
		cfg.Partners.List[0].Applications[0].TokenLifetime = 24 * time.Hour
		cfg.Issuer.MaxTokenLifetime = 24 * time.Hour
		cfg.Partners.List[1].Applications[0].TokenFormat = config.Opaque
	})
	before := s.fetched(s.ask(ledger, good))
	state, end := s.issuer.Store(), time.Now().Add(24*time.Hour)
	var workers sync.WaitGroup
	for range 32 { // with records of 32 KiB, 1,000 fill a share in place of 40,000
		workers.Go(func() {
			for err := error(nil); !errors.Is(err, store.ErrShare); {
				err = state.AddToken(sha256.Sum256([]byte(rand.Text())), store.Token{Client: "northwind-ledger", Expires: end, Record: make([]byte, 32<<10)})
				if err != nil && !errors.Is(err, store.ErrShare) {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	for range 50 { // the rest, with tokens of the usual size
		if a := s.ask(ledger, good); a.status != http.StatusOK {
			break
		}
	}
	a := s.ask(ledger, good)
	s.refused(a, "too_many_tokens")
	if got := a.header.Get("Retry-After"); got != "60" {
		t.Errorf("Retry-After is %q, want 60", got)
	}
	if line := s.lastLine(); line["level"] != "WARN" || line["client_id"] != "northwind-ledger" || !strings.Contains(line["error"].(string), "share of the stored tokens is used up: it holds ") {
		t.Errorf("got log line %v, want a warning about the share of northwind-ledger", line)
	}
	if a := s.introspect(accounts, "accounts-api", before.Token); !strings.Contains(a.body, `"active":true`) {
		t.Errorf("introspection of an earlier token returned %s, want it active", a.body)
	}
	s.fetched(s.ask(payroll, "grant_type=client_credentials&client_id=southridge-payroll"))

	s.clock.Add(int64(24*time.Hour + time.Minute))
	s.issuer.Sweep(t.Context())
	s.fetched(s.ask(ledger, good))
}

// Clients can store revocations of their own tokens only.
func TestRevocationsThatStoreNothing(t *testing.T) {
	s := newHarness(t, "", opaque)
	others := s.fetched(s.ask(ledger, good))
	unknownSigner := testpki.NewSigner("ES256", "k1")
	for _, token := range []string{
		rand.Text(), strings.Repeat("x", 16<<10), others.Token,
		unknownSigner.Token(testpki.Bound(s.identifier, audience, "northwind-archive", archive)),
		unknownSigner.Token(testpki.Bound("https://elsewhere.example", audience, "northwind-archive", archive)),
	} {
		for range 3 {
			s.revoke(archive, "client_id=northwind-archive&token="+url.QueryEscape(token))
		}
	}
	stored := 0
	if err := s.issuer.Store().Revocations(func(store.Revocation) error { stored++; return nil }); err != nil || stored != 0 {
		t.Errorf("the store has %d revocations, %v; want none", stored, err)
	}
	for range 3 {
		s.revoke(ledger, "client_id=northwind-ledger&token="+others.Token)
	}
	if err := s.issuer.Store().Revocations(func(store.Revocation) error { stored++; return nil }); err != nil || stored != 1 {
		t.Errorf("the store has %d revocations, %v; want 1", stored, err)
	}
}
