package policy

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// call returns a configured route.
func call(path string, methods []config.Method, scopes ...config.Scope) config.Route {
	pattern, err := urlpath.ParsePattern(path)
	if err != nil {
		panic(err)
	}
	return config.Route{Methods: methods, Path: pattern, Scopes: scopes}
}

func methods(names ...config.Method) []config.Method { return names }

// servers are the authorization servers of most tests. Claims without a server belong to the server with
// the empty name.
var servers = []config.AuthorizationServer{{}}

// apis has two APIs on one host and one on another host.
func apis() []config.API {
	return []config.API{
		{Name: "accounts", Hosts: []config.Host{"api.test", "::1"}, Routes: []config.Route{
			call("/accounts", methods("GET"), "accounts:read"),
			call("/accounts", methods("POST"), "accounts:write"),
			call("/accounts/{id}", methods("GET"), "accounts:read"),
			call("/accounts/{id}", methods("DELETE"), "accounts:read", "accounts:write"),
			call("/accounts/me", methods("GET", "HEAD")),
			call("/accounts/{id}/events/**", methods("GET")),
			call("/accounts/**", methods("PATCH")),
			call("/public/**", methods("GET")),
			call("/v1.orders", methods("GET")),
			call("/straße/{a}/b", methods("GET")),
			call("/", methods("GET")),
		}},
		{Name: "payments", Hosts: []config.Host{"api.test"}, Routes: []config.Route{
			call("/payments", methods("GET", "POST")),
			call("/accounts/{id}/payments", methods("GET")),
		}},
		{Name: "admin", Hosts: []config.Host{"api.test", "admin.test"}, Routes: []config.Route{
			call("/admin", methods("GET")),
			call("/accounts/root", methods("GET")),
		}},
	}
}

var (
	authority   = testpki.NewCA("Northwind CA")
	ledger      = authority.Leaf("ledger", testpki.DNS("ledger.test"))
	ledgerCert  = certificate(ledger, authority)
	ledgerScope = []string{"accounts:read"}
)

// certificate returns the access.Certificate that mtls makes of pair if it chains to authorities.
func certificate(pair *testpki.Pair, authorities ...*testpki.Pair) *access.Certificate {
	return &access.Certificate{Leaf: pair.Cert, Thumbprint: access.ThumbprintOf(pair.Cert), Anchors: anchors(authorities...)}
}

func anchors(authorities ...*testpki.Pair) (keys []access.AnchorKey) {
	for _, a := range authorities {
		keys = append(keys, sha256.Sum256(a.Cert.RawSubjectPublicKeyInfo))
	}
	return keys
}

func testConfig() *config.Config {
	return &config.Config{AuthorizationServers: servers, APIs: apis(), Partners: config.Partners{List: []config.Partner{
		{Name: "northwind", Applications: []config.Application{
			{ClientID: "northwind-ledger", APIs: []config.APIGrant{{API: "accounts"}, {API: "payments", Methods: methods("GET")}}},
			{ClientID: "northwind-idle"},
			{ClientID: "northwind-dangling", APIs: []config.APIGrant{{API: "account"}, {API: ""}, {API: "accounts:read"}}},
			{ClientID: "northwind-root", APIs: []config.APIGrant{{API: "admin"}}},
		}},
		{Name: "southwind", Disabled: true, Applications: []config.Application{
			{ClientID: "southwind-ledger", APIs: []config.APIGrant{{API: "accounts"}}},
		}},
	}}}
}

func testTable() *Table {
	keys := anchors(authority)
	return New(testConfig(), Certificates{Anchors: map[config.Name][]access.AnchorKey{"northwind": keys, "southwind": keys}})
}

// ruleOf returns the client_id and the route at the position that d names.
func ruleOf(d access.Decision) string {
	cfg := testConfig()
	client := string(cfg.Partners.List[d.Rule.Partner].Applications[d.Rule.Application].ClientID)
	if d.Route == "" {
		return client + " "
	}
	api := cfg.APIs[d.Rule.API]
	return client + " " + string(api.Name) + " " + api.Routes[d.Rule.Route].Path.String()
}

func TestDecideCall(t *testing.T) {
	table := testTable()
	try := func(method, url, client string, scopes []string, want access.Decision) {
		t.Helper()
		r, err := read(method+" "+url, "api.test")
		if err != nil {
			t.Fatal(err)
		}
		target, err := table.ParseTarget(r)
		if err != nil {
			t.Fatal(err)
		}
		want.Partner, want.ClientID = "northwind", client
		want.Claims = access.Claims{ClientID: client, Scopes: scopes, Expires: time.Unix(1, 0)}
		got := table.Decide(method, target, want.Claims, ledgerCert)
		if (got.Err == nil) != (want.Reason == access.Granted) {
			t.Errorf("Decide(%s %s): Err = %v", method, url, got.Err)
		}
		if named, rule := ruleOf(got), client+" "+strings.TrimSpace(want.API+" "+want.Route); named != rule {
			t.Errorf("Decide(%s %s): Rule is that of %q, want %q", method, url, named, rule)
		}
		got.Err, got.Rule = nil, access.Rule{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", method, url, diff)
		}
	}
	granted := func(method, url, api, route string) {
		t.Helper()
		try(method, url, "northwind-ledger", ledgerScope, access.Decision{Reason: access.Granted, API: api, Route: route})
	}
	denied := func(method, url string) {
		t.Helper()
		try(method, url, "northwind-ledger", ledgerScope, access.Decision{Reason: access.APINotAllowed})
	}
	notGranted := func(client, method, url, api, route string) {
		t.Helper()
		try(method, url, client, ledgerScope, access.Decision{Reason: access.APINotAllowed, API: api, Route: route})
	}
	lacks := func(method, url, route string, held []string, needed ...string) {
		t.Helper()
		try(method, url, "northwind-ledger", held, access.Decision{Reason: access.InsufficientScope, API: "accounts", Route: route, Scopes: needed})
	}

	granted("GET", "/accounts", "accounts", "/accounts")
	granted("GET", "/accounts?x=/admin", "accounts", "/accounts")
	granted("GET", "/accounts/42", "accounts", "/accounts/{id}")
	granted("GET", "/accounts/a%20b", "accounts", "/accounts/{id}")
	granted("GET", "/accounts/me", "accounts", "/accounts/me")
	granted("HEAD", "/accounts/me", "accounts", "/accounts/me")
	granted("GET", "/", "accounts", "/")
	granted("GET", "/stra%C3%9Fe/1/b", "accounts", "/straße/{a}/b")
	granted("GET", "/stra%c3%9fe/1/b", "accounts", "/straße/{a}/b")
	granted("GET", "https://api.test/v1.orders", "accounts", "/v1.orders")
	granted("GET", "https://[::1]:8443/v1.orders", "accounts", "/v1.orders")
	granted("GET", "https://API.TEST:8443/v1.orders", "accounts", "/v1.orders")
	granted("GET", "/accounts/1/payments", "payments", "/accounts/{id}/payments")
	granted("GET", "/payments", "payments", "/payments")

	// ** stands for one or more segments. The last may be empty, after a trailing slash.
	granted("GET", "/public/a", "accounts", "/public/**")
	granted("GET", "/public/a/b/c", "accounts", "/public/**")
	granted("GET", "/public/", "accounts", "/public/**")
	denied("GET", "/public")
	denied("GET", "/public.")
	denied("GET", "/publicity/a")

	// The less specific route, if the more specific route has another method or does not match.
	granted("PATCH", "/accounts/me", "accounts", "/accounts/**")
	granted("PATCH", "/accounts/1/events/2", "accounts", "/accounts/**")
	granted("GET", "/accounts/me/payments", "payments", "/accounts/{id}/payments")
	granted("GET", "/accounts/7/events/1", "accounts", "/accounts/{id}/events/**")
	denied("PUT", "/accounts/me")
	denied("GET", "/accounts/1/orders")

	// T-PATH-08: a trailing slash, a dot and the case make another path.
	denied("GET", "/accounts/")
	denied("GET", "/accounts/42/")
	denied("GET", "/accounts/me/")
	denied("GET", "/Accounts")
	denied("GET", "/accounts.")
	denied("GET", "/ACCOUNTS/me")
	denied("GET", "/payments/")
	// T-PATH-11: patterns are no regular expressions and match whole segments.
	denied("GET", "/v1Xorders")
	denied("GET", "/x/v1.orders")
	denied("GET", "/v1.orders/y")
	denied("GET", "/xaccounts")
	// T-PATH-16 and T-PATH-19: methods are exact.
	denied("HEAD", "/accounts")
	denied("OPTIONS", "/accounts")
	denied("gET", "/accounts")
	denied("get", "/accounts")
	denied("PROPFIND", "/accounts")
	denied("QUERY", "/accounts")
	denied("TRACE", "/accounts")
	denied("HEAD", "/public/a")
	// T-PATH-18: a path without a route is refused.
	denied("GET", "/unknown")
	denied("GET", "/stra%C3%9Fe/1")
	denied("GET", "/stra%C3%9Fe/")
	denied("GET", "https://other.test/accounts")
	denied("GET", "https://admin.test/accounts")

	// A route without a grant is refused, even if a less specific route has one: grants do not change
	// which route matches.
	notGranted("northwind-ledger", "GET", "/admin", "admin", "/admin")
	notGranted("northwind-ledger", "GET", "https://admin.test/admin", "admin", "/admin")
	notGranted("northwind-ledger", "GET", "/accounts/root", "admin", "/accounts/root")
	notGranted("northwind-ledger", "POST", "/payments", "payments", "/payments")
	notGranted("northwind-idle", "GET", "/accounts", "accounts", "/accounts")
	notGranted("northwind-dangling", "GET", "/accounts", "accounts", "/accounts")
	notGranted("northwind-root", "GET", "/public/a", "accounts", "/public/**")

	// T-JWT-17 and T-JWT-18: the token needs every scope of the route, compared exactly.
	lacks("POST", "/accounts", "/accounts", ledgerScope, "accounts:write")
	lacks("DELETE", "/accounts/1", "/accounts/{id}", ledgerScope, "accounts:read", "accounts:write")
	lacks("DELETE", "/accounts/1", "/accounts/{id}", []string{"accounts:write"}, "accounts:read", "accounts:write")
	lacks("GET", "/accounts", "/accounts", nil, "accounts:read")
	lacks("GET", "/accounts", "/accounts", []string{""}, "accounts:read")
	lacks("GET", "/accounts", "/accounts", []string{"accounts:read2"}, "accounts:read")
	lacks("GET", "/accounts", "/accounts", []string{"accounts:rea", "accounts", "xaccounts:read"}, "accounts:read")
	lacks("GET", "/accounts", "/accounts", []string{"ACCOUNTS:READ", "accounts:READ"}, "accounts:read")
	lacks("GET", "/accounts", "/accounts", []string{"accounts:read accounts:write", "accounts:read\t"}, "accounts:read")
	lacks("GET", "/accounts", "/accounts", []string{"*", "accounts:*"}, "accounts:read")
	try("DELETE", "/accounts/1", "northwind-ledger", []string{"x", "accounts:write", "accounts:read"},
		access.Decision{Reason: access.Granted, API: "accounts", Route: "/accounts/{id}"})
}

// Decide refuses a Target that ParseTarget would not return.
func TestDecideHandMadeTarget(t *testing.T) {
	table := testTable()
	for _, target := range []Target{
		{},
		{Host: "api.test"},
		{Path: "/v1.orders"},
		{Host: "API.test", Path: "/v1.orders"},
		{Host: "api.test:443", Path: "/v1.orders"},
		{Host: "api.test", Path: "v1.orders"},
		{Host: "api.test", Path: "//v1.orders"},
		{Host: "api.test", Path: "/public/../admin"},
		{Host: "api.test", Path: "/public/..%2fadmin"},
		{Host: "api.test", Path: "/public/a;b"},
		{Host: "api.test", Path: "/public//a"},
		{Host: "api.test", Path: "/public/a/b/c/%2e%2e"},
		{Host: "api.test", Path: "/public/a?b"},
	} {
		d := table.Decide("GET", target, access.Claims{ClientID: "northwind-ledger"}, ledgerCert)
		if d.Reason != access.APINotAllowed || d.Route != "" {
			t.Errorf("Decide(%+v) = %v, route %q, want a refusal", target, d.Reason, d.Route)
		}
	}
}

func TestServesAndPartner(t *testing.T) {
	table := testTable()
	for host, want := range map[string]bool{
		"api.test": true, "admin.test": true, "::1": true,
		"": false, "API.test": false, "api.test:443": false, "a.api.test": false, "test": false, "[::1]": false, "*": false,
	} {
		if table.Serves(host) != want {
			t.Errorf("Serves(%q) = %v, want %v", host, !want, want)
		}
	}
	for client, want := range map[string]string{
		"northwind-ledger": "northwind", "southwind-ledger": "southwind", "Northwind-Ledger": "", "northwind": "", "": "",
	} {
		if got := table.Partner("", client); got != want {
			t.Errorf("Partner(%q) = %q", client, got)
		}
	}
}

// An empty configuration, and the zero Table, grant nothing.
func TestEmptyTable(t *testing.T) {
	nothing := &config.Config{Partners: config.Partners{List: []config.Partner{{Applications: []config.Application{{}}}}}}
	for name, table := range map[string]*Table{"zero": {}, "empty": New(&config.Config{}, Certificates{}), "nameless": New(nothing, Certificates{})} {
		if table.Serves("") || table.Serves("api.test") || table.Partner("", "") != "" || table.Holder("", "", ledgerCert) != "" {
			t.Errorf("%s: Serves = true, want false", name)
		}
		for _, client := range []string{"", "northwind-ledger"} {
			d := table.Decide("GET", Target{Host: "api.test", Path: "/"}, access.Claims{ClientID: client}, ledgerCert)
			if d.Reason != access.UnknownClient || d.ClientID != client || d.Partner != "" {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
}

// manyApplications returns a Table of n applications, with 10 applications for each partner and an API
// for every 100.
func manyApplications(n int) *Table {
	cfg := &config.Config{AuthorizationServers: servers, APIs: apis()}
	keys := make(map[config.Name][]access.AnchorKey)
	for i := 0; i < n; i += 100 {
		host := config.Host(fmt.Sprintf("n%d.test", i))
		cfg.APIs = append(cfg.APIs, config.API{Name: config.Name(host), Hosts: []config.Host{host}, Routes: apis()[0].Routes})
	}
	dn, err := certname.ParseDN("CN=ledger")
	if err != nil {
		panic(err)
	}
	for i := 0; i < n; i += 10 {
		p := config.Partner{Name: config.Name(fmt.Sprintf("partner%d", i))}
		for j := range 10 {
			p.Applications = append(p.Applications, config.Application{
				ClientID:    config.ClientID(fmt.Sprintf("client%d", i+j)),
				Certificate: config.RegisteredCertificate{SubjectDN: dn},
				APIs:        []config.APIGrant{{API: "payments"}, {API: "accounts"}},
			})
		}
		cfg.Partners.List = append(cfg.Partners.List, p)
		keys[p.Name] = anchors(authority)
	}
	return New(cfg, Certificates{Anchors: keys})
}

func TestDecideAllocations(t *testing.T) {
	table := manyApplications(1000)
	claims := access.Claims{ClientID: "client999", Scopes: ledgerScope}
	for path, want := range map[string]float64{"/accounts/42": 0, "/accounts/a%20b": 1} {
		target := Target{Host: "api.test", Path: path}
		got := testing.AllocsPerRun(100, func() {
			if d := table.Decide("GET", target, claims, ledgerCert); d.Reason != access.Granted {
				t.Error(d.Reason, d.Err)
			}
		})
		if got > want {
			t.Errorf("%s: %v allocations, want %v", path, got, want)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n, "-applications"), func(b *testing.B) {
			table := manyApplications(n)
			claims := access.Claims{ClientID: fmt.Sprint("client", n/2), Scopes: ledgerScope}
			target := Target{Host: "api.test", Path: "/accounts/42"}
			b.ReportAllocs()
			for b.Loop() {
				if d := table.Decide("GET", target, claims, ledgerCert); d.Reason != access.Granted {
					b.Fatal(d.Reason)
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	cfg := &config.Config{AuthorizationServers: servers, APIs: apis()}
	for i := range 100_000 {
		cfg.Partners.List = append(cfg.Partners.List, config.Partner{
			Name:         config.Name(fmt.Sprintf("partner%d", i)),
			Applications: []config.Application{{ClientID: config.ClientID(fmt.Sprintf("client%d", i)), APIs: []config.APIGrant{{API: "accounts"}}}},
		})
	}
	for b.Loop() {
		New(cfg, Certificates{})
	}
}
