package issuer_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
)

// stateHolds returns the files of the state that contain text.
func (s *harness) stateHolds(text string) []string {
	var files []string
	err := filepath.WalkDir(s.state, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// RFC 8707: the audience is the requested resources as registered, or the default.
func TestResources(t *testing.T) {
	tests := []struct {
		name, asked string
		want        []string
		code        string
	}{
		{"none asked: the default", "", []string{audience}, ""},
		{"empty is none", "&resource=", []string{audience}, ""},
		{"the default", "&resource=" + audience, []string{audience}, ""},
		{"another", "&resource=" + payments, []string{payments}, ""},
		{"both", "&resource=" + payments + "&resource=" + audience, []string{payments, audience}, ""},
		{"one twice", "&resource=" + payments + "&resource=" + payments, []string{payments}, ""},
		{"unknown", "&resource=https://elsewhere.example", nil, "invalid_target"},
		{"one of two unknown", "&resource=" + payments + "&resource=https://elsewhere.example", nil, "invalid_target"},
		{"with a slash", "&resource=" + payments + "/", nil, "invalid_target"},
		{"other case", "&resource=HTTPS://payments.example.com", nil, "invalid_target"},
		{"with a fragment", "&resource=" + payments + "%23x", nil, "invalid_target"},
		{"no URI", "&resource=x", nil, "invalid_target"},
	}
	s := newHarness(t, "")
	for _, test := range tests {
		s.run(test.name, func(t *testing.T) {
			a := s.ask(ledger, good+test.asked)
			if test.code != "" {
				s.refused(a, test.code)
				return
			}
			if diff := cmp.Diff(test.want, s.verify(s.granted(a).Token).Audience); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	narrow := newHarness(t, "", func(cfg *config.Config) {
		cfg.Partners.List[0].Applications[0].Resources = []string{payments}
	})
	if got := narrow.verify(narrow.token().Token).Audience; !cmp.Equal(got, []string{payments}) {
		t.Errorf("the audience is %v, want %s, the only resource of the application", got, payments)
	}
	narrow.refused(narrow.ask(ledger, good+"&resource="+audience), "invalid_target")
}

// An application's settings apply: default scopes, lifetime, claims, unbound tokens.
func TestApplicationSettings(t *testing.T) {
	s := newHarness(t, "", func(cfg *config.Config) {
		a := &cfg.Partners.List[0].Applications[0]
		a.DefaultScopes = []config.Scope{"accounts:read"}
		a.TokenLifetime = time.Minute
		a.BoundTokens = false
		a.Claims = []config.StaticClaim{{Name: "tier", Value: "gold"}}
	})
	g := s.fetched(s.ask(ledger, good))
	if g.Scope != "accounts:read" || g.ExpiresIn != 60 {
		t.Errorf("got %+v, want scope accounts:read for 60 s", g)
	}
	var got map[string]any
	if err := json.Unmarshal(s.decode(split(g.Token)[1]), &got); err != nil {
		t.Fatal(err)
	}
	if got["tier"] != "gold" || got["cnf"] != nil || got["exp"].(float64) != got["iat"].(float64)+60 {
		t.Errorf("got claims %v, want tier gold, no cnf and 60 s", got)
	}
	if more := s.fetched(s.ask(ledger, good+"&scope=accounts:write")); more.Scope != "accounts:write" {
		t.Errorf("granted scope %q, want accounts:write", more.Scope)
	}
}

// A resource server may introspect, but gets no token.
func TestResourceServerGetsNoToken(t *testing.T) {
	s := newHarness(t, "")
	s.refused(s.ask(accounts, "grant_type=client_credentials&client_id=accounts-api"), "unauthorized_client")
}

// T-AS-12: a client that exceeds its rate gets 429, and other clients do not.
func TestRates(t *testing.T) {
	s := newHarness(t, "", func(cfg *config.Config) {
		cfg.Issuer.Limits.PerClient = config.Rate{RequestsPerSecond: 1, Burst: 3}
	})
	var limited int
	for range 10 {
		if a := s.ask(ledger, good); a.status == 429 {
			limited++
			s.refused(a, "too_many_requests")
			if a.header.Get("Retry-After") == "" {
				t.Error("a response with status 429 has no Retry-After")
			}
		}
	}
	if limited < 5 {
		t.Errorf("%d of 10 requests were limited, want 5 at least", limited)
	}
	s.granted(s.ask(payroll, "grant_type=client_credentials&client_id=southridge-payroll"))

	flooded := newHarness(t, "", func(cfg *config.Config) {
		cfg.Issuer.Limits.PerAddress = config.Rate{RequestsPerSecond: 1, Burst: 3}
	})
	for range 3 {
		flooded.refused(flooded.ask(nil, good), "invalid_client") // refused requests use the rate too
	}
	flooded.refused(flooded.ask(ledger, good), "too_many_requests")
	if a := flooded.send(nil, "GET", "/jwks", nil, ""); a.status != 200 {
		t.Errorf("GET /jwks: got %d, want 200", a.status)
	}
}
