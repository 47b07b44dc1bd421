package issuer_test

import (
	"slices"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer"
)

// An issuer that takes another's place, as its configuration has changed, goes on with
// its state and its keys: tokens of before count, revocations too, and so does the order
// of issue. What is configured of clients counts from the first request.
func TestSuccessor(t *testing.T) {
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
	s.options.Previous = first
	var err error
	if s.issuer, err = issuer.New(&cfg, s.options); err != nil {
		t.Fatal(err)
	}
	s.refused(s.ask(archive, "grant_type=client_credentials&client_id=northwind-archive"), "invalid_client")
	after := s.token()
	if s.verify(after.Token).IssuedAt < s.verify(before.Token).IssuedAt || s.keySet() != keys {
		t.Error("another clock, or other keys")
	}
	for name, c := range map[string]struct {
		token string
		ends  bool
	}{"before": {before.Token, false}, "revoked before": {revoked.Token, true}, "after": {after.Token, false}} {
		if got := s.introspect(accounts, "accounts-api", c.token).body == inactive; got != c.ends {
			t.Errorf("the token of %s: inactive %t, want %t", name, got, c.ends)
		}
	}
	if _, err := s.issuer.Revoke(issuer.RevocationRequest{Application: "northwind-ledger"}); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*issuer.Issuer{first, s.issuer} { // whichever a request has begun with
		s.issuer = i
		if s.introspect(accounts, "accounts-api", before.Token).body != inactive {
			t.Error("a revocation does not count")
		}
	}
}
