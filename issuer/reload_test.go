package issuer_test

import (
	"slices"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer"
)

// The issuer after a reload shares the state and the keys of the issuer before: tokens stay
// valid, revocations stay in force, and iat never decreases. New settings of clients apply to
// the next request.
func TestReload(t *testing.T) {
	s := newHarness(t, "")
	before, revoked, keys := s.token(), s.token(), s.keySet()
	s.granted(s.ask(archive, "grant_type=client_credentials&client_id=northwind-archive"))
	if _, err := s.issuer.Revoke(issuer.RevocationRequest{Token: revoked.Token}); err != nil {
		t.Fatal(err)
	}
	first := s.issuer
	cfg := *s.configured
	cfg.Partners.List = slices.Clone(cfg.Partners.List)
	cfg.Partners.List[0].Applications = slices.DeleteFunc(slices.Clone(cfg.Partners.List[0].Applications), func(a config.Application) bool {
		return a.ClientID == "northwind-archive"
	})
	s.options.Lease = s.pool.Lease()
	var err error
	if s.issuer, err = issuer.New(&cfg, s.options); err != nil {
		t.Fatal(err)
	}
	s.refused(s.ask(archive, "grant_type=client_credentials&client_id=northwind-archive"), "invalid_client")
	after := s.token()
	if s.verify(after.Token).IssuedAt < s.verify(before.Token).IssuedAt || s.keySet() != keys {
		t.Error("after the reload iat has decreased or the keys differ")
	}
	for name, c := range map[string]struct {
		token string
		ends  bool
	}{"before": {before.Token, false}, "revoked before": {revoked.Token, true}, "after": {after.Token, false}} {
		if got := s.introspect(accounts, "accounts-api", c.token).body == inactive; got != c.ends {
			t.Errorf("the token %q: inactive is %t, want %t", name, got, c.ends)
		}
	}
	if _, err := s.issuer.Revoke(issuer.RevocationRequest{Application: "northwind-ledger"}); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*issuer.Issuer{first, s.issuer} { // a request may still use the issuer before
		s.issuer = i
		if s.introspect(accounts, "accounts-api", before.Token).body != inactive {
			t.Error("a token is active after its revocation")
		}
	}
}
