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

// Package validate, which shares no judging code with the issuer, accepts the issuer's tokens
// with their certificate only, and refuses them once they are revoked, also from its cache and
// within the longest leeway.
func TestSecondOpinion(t *testing.T) {
	s := newHarness(t, "")
	const leeway = 5 * time.Minute
	gate := s.gate(config.AuthorizationServer{
		Tokens: config.BothKinds, Algorithms: []config.Algorithm{config.ES256}, Types: []string{"at+jwt"}, Leeway: leeway, Cache: config.Cache{Entries: 100},
		KeySet: config.KeySet{Refresh: time.Minute, CoolDown: time.Second, MaxStale: time.Hour},
	})
	judged := func(token string, pair *testpki.Pair) access.Reason {
		t.Helper()
		claims, err := gate.Validate(t.Context(), validate.Credentials{Token: token}, &access.Certificate{Leaf: pair.Cert, Thumbprint: access.ThumbprintOf(pair.Cert), Anchors: []access.AnchorKey{anchor(northCA.Cert)}})
		if err == nil {
			if claims.ClientID != "northwind-ledger" || len(claims.Scopes) != 2 {
				t.Errorf("Validate returned %+v, want the claims of the token", claims)
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
			t.Errorf("%s: got reason %v, want %v", step, got, want)
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

// A gate in the same process accepts an opaque token like a JWT: with its certificate only,
// until it expires or is revoked.
func TestSecondOpinionOfOpaqueTokens(t *testing.T) {
	s := newHarness(t, "", opaque)
	gate := s.gate(config.AuthorizationServer{Tokens: config.OpaqueOnly})
	judged := func(token string, pair *testpki.Pair) (access.Claims, access.Reason) {
		claims, err := gate.Validate(t.Context(), validate.Credentials{Token: token}, &access.Certificate{Leaf: pair.Cert, Thumbprint: access.ThumbprintOf(pair.Cert), Anchors: []access.AnchorKey{anchor(northCA.Cert)}})
		if err != nil {
			return claims, access.ReasonOf(err)
		}
		return claims, access.Granted
	}
	first, second := s.fetch(good), s.fetch(good)
	claims, reason := judged(first, ledger)
	if reason != access.Granted || claims.ClientID != "northwind-ledger" || claims.Issuer != s.identifier || claims.TokenID == "" || len(claims.Scopes) != 2 {
		t.Errorf("got reason %s with %+v, want granted", reason, claims)
	}
	for step, c := range map[string]struct {
		token string
		pair  *testpki.Pair
		want  access.Reason
	}{
		"another's certificate": {first, archive, access.BoundToOther},
		"no token of ours":      {"made-up", ledger, access.Inactive},
	} {
		if _, got := judged(c.token, c.pair); got != c.want {
			t.Errorf("%s: got reason %s, want %s", step, got, c.want)
		}
	}
	s.revoke(ledger, "token="+first+byLedger)
	if _, got := judged(first, ledger); got != access.Inactive {
		t.Errorf("the revoked token: got reason %s, want inactive", got)
	}
	if _, got := judged(second, ledger); got != access.Granted {
		t.Errorf("the other token: got reason %s, want granted", got)
	}
	s.clock.Store(int64(lifetime + time.Second))
	if _, got := judged(second, ledger); got != access.Inactive {
		t.Errorf("past exp: got reason %s, want inactive", got)
	}
}
