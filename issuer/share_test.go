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

// T-ADD-16: a client that has used up its share of the stored tokens is refused with an error
// that says so, and when to come back. Its tokens still count, others get theirs, and when
// what it has is over, so does it.
func TestOpaqueTokenShare(t *testing.T) {
	s := newHarness(t, "", opaque, func(cfg *config.Config) {
		cfg.Partners.List[0].Applications[0].TokenLifetime = 24 * time.Hour
		cfg.Issuer.MaxTokenLifetime = 24 * time.Hour
		cfg.Partners.List[1].Applications[0].TokenFormat = config.Opaque
	})
	before := s.fetched(s.ask(ledger, good))
	state, end := s.issuer.Store(), time.Now().Add(24*time.Hour)
	var workers sync.WaitGroup
	for range 32 { // by records of 32 KiB, for which a share takes 1,000 and not 40,000
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
	for range 50 { // by those of its own size
		if a := s.ask(ledger, good); a.status != http.StatusOK {
			break
		}
	}
	a := s.ask(ledger, good)
	s.refused(a, "too_many_tokens")
	if got := a.header.Get("Retry-After"); got != "60" {
		t.Errorf("Retry-After is %q, want 60", got)
	}
	if line := s.lastLine(); line["level"] != "WARN" || line["client_id"] != "northwind-ledger" || !strings.Contains(line["err"].(string), "share of the stored tokens is used up: it holds ") {
		t.Errorf("logged %v", line)
	}
	if a := s.introspect(accounts, "accounts-api", before.Token); !strings.Contains(a.body, `"active":true`) {
		t.Errorf("a token from before is told about as %s", a.body)
	}
	s.fetched(s.ask(payroll, "grant_type=client_credentials&client_id=southridge-payroll"))

	s.clock.Add(int64(24*time.Hour + time.Minute))
	s.issuer.Sweep(t.Context())
	s.fetched(s.ask(ledger, good))
}

// What a client can have stored by the revocation endpoint are revocations of its own tokens:
// whatever else it sends stores nothing.
func TestRevocationsThatStoreNothing(t *testing.T) {
	s := newHarness(t, "", opaque)
	others := s.fetched(s.ask(ledger, good))
	stranger := testpki.NewSigner("ES256", "k1")
	for _, token := range []string{
		rand.Text(), strings.Repeat("x", 16<<10), others.Token,
		stranger.Token(testpki.Bound(s.identifier, audience, "northwind-archive", archive)),
		stranger.Token(testpki.Bound("https://elsewhere.example", audience, "northwind-archive", archive)),
	} {
		for range 3 {
			s.revoke(archive, "client_id=northwind-archive&token="+url.QueryEscape(token))
		}
	}
	stored := 0
	if err := s.issuer.Store().Revocations(func(store.Revocation) error { stored++; return nil }); err != nil || stored != 0 {
		t.Errorf("%d revocations are stored, %v; want none", stored, err)
	}
	for range 3 {
		s.revoke(ledger, "client_id=northwind-ledger&token="+others.Token)
	}
	if err := s.issuer.Store().Revocations(func(store.Revocation) error { stored++; return nil }); err != nil || stored != 1 {
		t.Errorf("%d revocations are stored of one token, %v", stored, err)
	}
}
