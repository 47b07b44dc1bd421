package issuer_test

import (
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/issuer"
)

// T-INT-12: tokens of other servers may live longer than ours. A revocation of an application or a
// partner stays in force after a sweep and a restart, even if it is old.
func TestRevocationOfLongLivedTokens(t *testing.T) {
	for name, request := range map[string]issuer.RevocationRequest{
		"application": {Application: "northwind-ledger"}, "partner": {Partner: "northwind"},
	} {
		t.Run(name, func(t *testing.T) {
			keep := sameIssuer()
			s := newHarness(t, "", keep)
			token := access.Unchecked{Issuer: "https://other.example", ClientID: "northwind-ledger", IssuedAt: time.Now().Add(-time.Minute)}
			if _, err := s.issuer.Revoke(request); err != nil {
				t.Fatal(err)
			}
			s.clock.Store(int64(30 * 24 * time.Hour))
			s.issuer.Sweep(t.Context())
			if err := s.issuer.Close(); err != nil {
				t.Fatal(err)
			}
			if s = newHarness(t, "", keep); !isRevoked(t, s.issuer, token) {
				t.Error("Revoked is false 30 days later and after a restart, want true")
			}
		})
	}
}
