package policy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
)

// The API and the route of a request are known before its client is known, also if no route matches.
func TestLabels(t *testing.T) {
	cfg := testConfig()
	cfg.APIs = append(cfg.APIs, config.API{Name: "docs", Hosts: []config.Host{"*.docs.test"}, Routes: []config.Route{call("/{page}", methods("GET"))}})
	table := New(cfg, Certificates{})
	for line, want := range map[string][2]string{
		"GET https://api.test/accounts/7":          {"accounts", "/accounts/{id}"},
		"GET https://api.test:8443/payments":       {"payments", "/payments"},
		"GET https://API.test/accounts/7/payments": {"payments", "/accounts/{id}/payments"},
		"GET https://api.test/payments/7/8":        {"payments", Unmatched}, // the beginning of the path identifies the API
		"PUT https://api.test/payments":            {"payments", Unmatched},
		"GET https://api.test/public":              {"accounts", Unmatched},
		"GET https://api.test/accounts/7/nothing":  {Unmatched, Unmatched}, // accounts and payments have routes under /accounts
		"GET https://api.test/elsewhere":           {Unmatched, Unmatched},
		"GET https://api.test/accounts/%2e%2e/x":   {Unmatched, Unmatched}, // not canonical
		"GET https://admin.test/elsewhere":         {"admin", Unmatched},
		"GET https://admin.test/a//b":              {"admin", Unmatched},
		"GET https://[::1]/accounts/7":             {"accounts", "/accounts/{id}"},
		"GET https://one.docs.test/index":          {"docs", "/{page}"},
		"GET https://docs.test/index":              {NoAPI, Unmatched},
		"GET https://other.test/accounts/7":        {NoAPI, Unmatched},
	} {
		method, url, _ := strings.Cut(line, " ")
		r := httptest.NewRequest(method, url, nil)
		if got := table.Labels(r); got.API != want[0] || got.Route != want[1] || (got.Host == "") != (want[0] == NoAPI) {
			t.Errorf("Labels(%s) = %+v, want API %q and route %q", line, got, want[0], want[1])
		}
	}
	for _, host := range []string{"", "api test", "api.test:x", "..."} {
		r := httptest.NewRequest(http.MethodGet, "/accounts/7", nil)
		r.Host = host
		if got, want := table.Labels(r), (Labels{API: NoAPI, Route: Unmatched}); got != want {
			t.Errorf("Labels with host %q = %+v, want %+v", host, got, want)
		}
	}
}
