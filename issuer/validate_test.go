package issuer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/validate"
)

// TestSecondOpinion: package validate, which shares no code with the issuer, takes
// its tokens with their certificate alone, and refuses them once they are revoked,
// also from its cache and in the longest leeway that it can be given.
func TestSecondOpinion(t *testing.T) {
	s := newSite(t, "")
	now := func() time.Time { return time.Now().Add(time.Duration(s.clock.Load())) }
	const leeway = 5 * time.Minute
	gate, err := validate.New([]config.AuthorizationServer{{
		Name: "ours", Issuer: config.Identifier(s.identifier), Audiences: []string{audience}, Tokens: config.BothKinds,
		Algorithms: []config.Algorithm{config.ES256}, Types: []string{"at+jwt"}, Leeway: leeway, Cache: config.Cache{Entries: 100},
	}}, validate.Options{
		Local:   map[config.Identifier]validate.Local{config.Identifier(s.identifier): {KeySet: s.issuer.KeySet, Introspect: s.issuer.Resolve}},
		Revoked: s.issuer.Revoked,
		Now:     now,
	})
	if err != nil {
		t.Fatal(err)
	}
	judged := func(token string, pair *testpki.Pair) access.Reason {
		t.Helper()
		claims, err := gate.Validate(t.Context(), token, &access.Certificate{Leaf: pair.Cert, Thumbprint: access.ThumbprintOf(pair.Cert), Anchors: []access.AnchorKey{anchor(northCA.Cert)}})
		if err == nil {
			if claims.ClientID != "northwind-ledger" || len(claims.Scopes) != 2 {
				t.Errorf("claims %+v", claims)
			}
			return access.Granted
		}
		var d *access.Denial
		if !errors.As(err, &d) {
			t.Fatal(err)
		}
		return d.Reason
	}
	expect := func(step string, got, want access.Reason) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", step, got, want)
		}
	}

	first, second := s.token().Token, s.token().Token
	expect("its certificate", judged(first, ledger), access.Granted)
	expect("another of the partner", judged(first, archive), access.BoundToOther)
	s.refused(s.revoke(archive, "token="+first+"&client_id=northwind-archive"), "invalid_grant")
	expect("another client's revocation", judged(first, ledger), access.Granted)
	s.revoke(ledger, "token="+first+byLedger)
	expect("revoked, in the cache", judged(first, ledger), access.Revoked)
	expect("the other token", judged(second, ledger), access.Granted)

	s.clock.Store(int64(lifetime + leeway - 10*time.Second))
	expect("past exp, in the leeway", judged(second, ledger), access.Granted)
	s.revoke(ledger, "token="+second+byLedger)
	expect("revoked in the leeway", judged(second, ledger), access.Revoked)
	expect("revoked before the leeway", judged(first, ledger), access.Revoked)
	s.clock.Store(int64(lifetime + leeway + time.Second))
	expect("past the leeway", judged(second, ledger), access.Expired)
}
