package policy

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

var everySpelling = []config.PathEncoding{
	config.AllowEncodedSlash, config.AllowSemicolon, config.AllowEncodedUnreserved, config.AllowNonUTF8, config.AllowOuterSpace,
}

// spelledTable has an API that allows every spelling, and one on the same host that allows none.
func spelledTable() *Table {
	cfg := testConfig()
	cfg.APIs = []config.API{
		{Name: "things", Hosts: []config.Host{"api.test"}, PathEncoding: everySpelling, Routes: []config.Route{
			call("/things/{id}", methods("GET")),
			call("/things/{id}", methods("DELETE"), "things:delete"),
			call("/things/{id}/secrets", methods("GET"), "things:secrets"),
			call("/things/{id}/parts", methods("GET")),
			call("/things/me", methods("GET"), "things:secrets"),
			call("/things/M%C3%BCller", methods("GET"), "things:secrets"),
			call("/files/**", methods("GET")),
			call("/files/private/**", methods("GET"), "files:private"),
		}},
		{Name: "plain", Hosts: []config.Host{"api.test", "plain.test"}, Routes: []config.Route{
			call("/plain/{id}", methods("GET")),
			call("/things/{id}/bills", methods("GET")),
			call("/admin", methods("GET")),
		}},
	}
	cfg.Partners.List[0].Applications[0].APIs = []config.APIGrant{{API: "things"}, {API: "plain"}}
	return New(cfg, Certificates{Anchors: map[config.Name][]access.AnchorKey{"northwind": anchors(authority)}})
}

// decideSpelled returns the reason, and the API and route, of a request without scopes.
func decideSpelled(t *testing.T, table *Table, line string, scopes ...string) (access.Reason, string) {
	t.Helper()
	r, err := read(line, "api.test")
	if err != nil {
		t.Fatal(err)
	}
	target, err := table.ParseTarget(r)
	if err != nil {
		return reasonOf(err), ""
	}
	d := table.Decide(r.Method, target, access.Claims{ClientID: "northwind-ledger", Scopes: scopes}, ledgerCert)
	return d.Reason, strings.TrimSpace(d.API + " " + d.Route)
}

func TestDecideSpelled(t *testing.T) {
	table := spelledTable()
	const thing = "things /things/{id}"
	for line, want := range map[string]string{ // the route; "" for api_not_allowed, "400" for path_not_canonical
		"GET /things/GB%2F12":              thing,
		"GET /things/a%7Eb":                thing,
		"GET /things/1;version=2":          thing,
		"GET /things/Z%FCrich%20":          thing,
		"GET /things/AB%20":                thing,
		"GET /things/https:%2F%2Fa.test":   thing,
		"GET /things/GB%2F12/parts":        "things /things/{id}/parts",
		"GET /things/x%2Fparts":            thing, // the more specific route has no further demands
		"GET /files/a%2Fb":                 "things /files/**",
		"GET /files/a/b;c/d%2Fe":           "things /files/**",
		"GET /things/x%2Fsecrets":          "", // another route to an upstream that splits at %2F
		"GET /things/x%2F%2Fsecrets":       "",
		"GET /things/x%2Fbills":            "", // the API has another grant
		"GET /things/%6De":                 "", // /things/me
		"GET /things/me;a=b":               "",
		"GET /things/me%20":                "",
		"GET /things/%2Fme":                "",
		"GET /things/me%3Ba":               "",
		"GET /things/m%65%20;a":            "",
		"GET /things/x%2Fsecrets;%2Fy":     "", // another route to an upstream that cuts at ";" and then decodes
		"GET /things/x%3Ba%2Fsecrets;%2Fy": "",
		"GET /things/x;%2Fsecrets":         "",
		"GET /things/m%FFe":                "", // another route to an upstream that drops bytes that are not UTF-8
		"GET /things/%80me":                "",
		"GET /files/priv%E2%82ate/a":       "",
		"GET /things/.%FF.":                "400",
		"GET /things/%CF%F0%E8":            thing, // no letter of another alphabet is left without the bytes
		"GET /files/private%2Fa":           "",
		"GET /files/%70rivate/a":           "",
		"GET /files/private;a/b":           "",
		"GET /t%68ings/1":                  "", // never a literal
		"GET /things%2F1":                  "",
		"GET /things;a/1":                  "",
		"GET /plain/a%2Fb":                 "", // the API allows no spelling
		"GET /plain/a;b":                   "",
		"GET /%61dmin":                     "",
		"GET /things/..%2Fadmin":           "400",
		"GET /things/%2e%2e":               "400",
		"GET /things/..;a/admin":           "400",
		"GET /things/a%252Fb":              "400",
		"GET /things/a%5Cb":                "400",
		"GET /things//a%2Fb":               "400",
		"GET /things/;":                    "400",
		"GET https://plain.test/plain/a;b": "400", // no API on the host allows a spelling
	} {
		reason, route := decideSpelled(t, table, line)
		wantReason := access.Granted
		switch want {
		case "":
			wantReason = access.APINotAllowed
		case "400":
			wantReason, want = access.PathNotCanonical, ""
		}
		if reason != wantReason || route != want {
			t.Errorf("%s: got %s, route %q, want %s, %q", line, reason, route, wantReason, want)
		}
	}
	// ISO 8859-1 of a literal.
	if reason, _ := decideSpelled(t, table, "GET /things/M%FCller"); reason != access.APINotAllowed {
		t.Errorf("GET /things/M%%FCller, which is /things/Müller in ISO 8859-1: got %s, want api_not_allowed", reason)
	}
	// The scopes belong to the route that the gate matches.
	if reason, _ := decideSpelled(t, table, "DELETE /things/a%2Fb"); reason != access.InsufficientScope {
		t.Errorf("DELETE without a scope: got %s, want insufficient_scope", reason)
	}
	if reason, _ := decideSpelled(t, table, "DELETE /things/a%2Fb", "things:delete"); reason != access.Granted {
		t.Errorf("DELETE with its scope: got %s, want granted", reason)
	}
}

// upstreams are servers that read a path in their own ways, written without the code of the gate. Each
// returns the path that it routes by, in canonical spelling.
var upstreams = map[string]func(raw string) string{
	"splits, then decodes": func(raw string) string {
		parts := strings.Split(raw, "/")
		for i := range parts {
			parts[i] = unescape(parts[i])
		}
		return escaped(parts)
	},
	"decodes, then splits": func(raw string) string { return escaped(strings.Split(unescape(raw), "/")) },
	"decodes, then cleans": func(raw string) string { return escaped(strings.Split(path.Clean(unescape(raw)), "/")) },
	"cuts parameters, then decodes": func(raw string) string {
		return escaped(strings.Split(unescape(withoutParameters(raw)), "/"))
	},
	"decodes, then cuts parameters": func(raw string) string {
		return escaped(strings.Split(withoutParameters(unescape(raw)), "/"))
	},
	"decodes, cuts parameters, cleans": func(raw string) string {
		return escaped(strings.Split(path.Clean(withoutParameters(unescape(raw))), "/"))
	},
	"splits, decodes, trims": func(raw string) string {
		parts := strings.Split(raw, "/")
		for i := range parts {
			parts[i] = strings.TrimSpace(unescape(parts[i]))
		}
		return escaped(parts)
	},
	"decodes as ISO 8859-1": func(raw string) string {
		parts := strings.Split(raw, "/")
		for i := range parts {
			if parts[i] = unescape(parts[i]); !utf8.ValidString(parts[i]) {
				var runes []rune
				for _, c := range []byte(parts[i]) {
					runes = append(runes, rune(c))
				}
				parts[i] = string(runes)
			}
		}
		return escaped(parts)
	},
	"decodes and drops what is not UTF-8": func(raw string) string {
		return escaped(strings.Split(strings.ToValidUTF8(unescape(raw), ""), "/"))
	},
	"does not decode": func(raw string) string { return escaped(strings.Split(raw, "/")) },
}

func unescape(s string) string {
	decoded, err := url.PathUnescape(s)
	if err != nil {
		panic(err)
	}
	return decoded
}

func withoutParameters(s string) string {
	parts := strings.Split(s, "/")
	for i := range parts {
		parts[i], _, _ = strings.Cut(parts[i], ";")
	}
	return strings.Join(parts, "/")
}

// escaped returns a path that ParseTarget accepts, if there is one, whose segments decode to parts.
func escaped(parts []string) string {
	parts = slices.Clone(parts)
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// For each path that an upstream may read from a granted path: the path has no other route of the API
// with other demands, no route of another API, and does not leave the literals at the beginning of the
// route.
func FuzzDecideSpelled(f *testing.F) {
	for _, p := range []string{
		"/things/GB%2F12", "/things/x%2Fsecrets", "/things/..%2Fadmin", "/things/me;a", "/files/a%2F..%2Fb", "/files/private;x/y", "/things/%2Fme",
		"/plain/a%2Fb", "/things/a%252Fb", "/files/%2e%2e;/x", "/things/%6De", "/things/;/x", "/files/a%2Fb/c;d", "/things/x%2F%2Fbills", "/things/M%FCller", "/things/me%20", "/files/%20private/x",
		"/things/x%2Fsecrets;%2Fy", "/things/x%3Ba%2Fsecrets;%2Fy", "/things/m%FFe", "/files/.%FF./x",
	} {
		f.Add(p)
	}
	table := spelledTable()
	f.Fuzz(func(t *testing.T, target string) {
		r, err := read("GET "+target, "api.test")
		if err != nil {
			return
		}
		parsed, err := table.ParseTarget(r)
		if err != nil || parsed.Host != "api.test" {
			return
		}
		found, err := table.route("GET", parsed)
		if err != nil {
			return
		}
		for name, reads := range upstreams {
			got := reads(parsed.Path)
			if prefix := "/" + strings.Split(found.name, "/")[1]; !strings.HasPrefix(got, prefix) {
				t.Errorf("%q, granted by %s: an upstream that %s reads %q, want it to begin with %s", target, found.name, name, got, prefix)
			}
			other, err := table.route("GET", Target{Host: "api.test", Path: got})
			if err == nil && (other.api != found.api || !other.coveredBy(found.scopes)) {
				t.Errorf("%q, granted by %s: an upstream that %s reads %q, which is %s", target, found.name, name, got, other.name)
			}
		}
	})
}

// A path matches without its trailing slash, or with an added slash, if its API allows this and no
// route has the path itself.
func TestTrailingSlash(t *testing.T) {
	cfg := testConfig()
	cfg.APIs = []config.API{
		{Name: "accounts", Hosts: []config.Host{"api.test"}, TrailingSlash: config.OptionalSlash, PathEncoding: everySpelling, Routes: []config.Route{
			call("/accounts", methods("GET")),
			call("/accounts/{id}/", methods("GET")),
			call("/both", methods("GET")),
			call("/both/", methods("GET"), "x"),
			call("/files/**", methods("GET")),
			call("/files/private", methods("GET"), "x"),
			call("/files/{id}/parts/", methods("GET"), "x"),
			call("/files/{id}/names", methods("GET")),
			call("/names/{id}", methods("GET")),
			call("/names/me/", methods("GET"), "x"),
			call("/lists", methods("GET")),
			call("/lists/**", methods("GET"), "x"),
			call("/", methods("GET")),
		}},
		{Name: "payments", Hosts: []config.Host{"api.test"}, Routes: []config.Route{
			call("/payments", methods("GET")),
			call("/payments/{id}/", methods("GET")),
			call("/{any}/", methods("PUT")),
			call("/payments/files/**", methods("GET")),
			call("/payments/files/private", methods("GET"), "x"),
		}},
	}
	cfg.Partners.List[0].Applications[0].APIs = []config.APIGrant{{API: "accounts"}, {API: "payments"}}
	table := New(cfg, Certificates{Anchors: map[config.Name][]access.AnchorKey{"northwind": anchors(authority)}})
	for line, want := range map[string]string{
		"GET /accounts":        "accounts /accounts",
		"GET /accounts/":       "accounts /accounts",
		"GET /accounts/1":      "accounts /accounts/{id}/",
		"GET /accounts/1/":     "accounts /accounts/{id}/",
		"GET /accounts/a%2Fb":  "accounts /accounts/{id}/",
		"GET /accounts/a%2F":   "accounts /accounts/{id}/",
		"GET /both":            "accounts /both",
		"GET /files":           "accounts /files/**",
		"GET /files/":          "accounts /files/**",
		"GET /files/a/":        "accounts /files/**",
		"GET /":                "accounts /",
		"PUT /accounts/":       "payments /{any}/",
		"PUT /accounts":        "",
		"GET /payments/":       "",
		"GET /payments/1":      "",
		"GET /accounts/1/x":    "",
		"GET /accounts/1/x/":   "",
		"GET /payments/a%2Fb/": "",
		// Another route also matches these, and an upstream that ignores the slash takes them for a more specific route.
		"GET /files/private/":          "",
		"GET /files/7/parts":           "",
		"GET /files/a%2Fb/parts":       "",
		"GET /files/7%2Fparts":         "",
		"GET /files/private%2F":        "",
		"GET /names/me":                "",
		"GET /lists":                   "accounts /lists",    // more specific than /lists/**, which also matches /lists/
		"GET /files/7/names/":          "accounts /files/**", // the more specific route has no further demands
		"GET /payments/files/private/": "",                   // also if its API does not say that it ignores the slash
	} {
		reason, route := decideSpelled(t, table, line)
		if route != want || (reason == access.Granted) != (want != "") {
			t.Errorf("%s: got %s, route %q, want %q", line, reason, route, want)
		}
	}
	if reason, _ := decideSpelled(t, table, "GET /both/"); reason != access.InsufficientScope {
		t.Errorf("GET /both/: got %s, want insufficient_scope of its own route", reason)
	}
	if reason, _ := decideSpelled(t, table, "GET /accounts//"); reason != access.PathNotCanonical {
		t.Errorf("GET /accounts//: got %s, want path_not_canonical", reason)
	}
}

// Many upstreams ignore case and a trailing slash. A path that is then a path of a more specific route
// with other demands is refused.
func TestOverlooked(t *testing.T) {
	cfg := testConfig()
	cfg.APIs = []config.API{
		{Name: "accounts", Hosts: []config.Host{"api.test", "*.test"}, Routes: []config.Route{
			call("/accounts", methods("GET")),
			call("/accounts/{id}", methods("GET", "PUT")),
			call("/accounts/admin", methods("GET"), "x"),
			call("/accounts/names", methods("GET")),
			call("/accounts/kelvin/{id}", methods("GET"), "x"),
			call("/accounts/stra%C3%9Fe/{id}", methods("GET"), "x"),
			call("/accounts/{id}/{part}", methods("GET")),
			call("/files/**", methods("GET")),
			call("/files/private", methods("GET"), "x"),
			call("/files/listed", methods("GET"), "x"),
			call("/files/listed/", methods("GET")),
			call("/lists", methods("GET"), "x"),
			call("/lists/**", methods("GET")),
			call("/LISTS/**", methods("PUT")),
		}},
		{Name: "payments", Hosts: []config.Host{"api.test"}, Routes: []config.Route{call("/accounts/bills", methods("GET"))}},
	}
	cfg.Partners.List[0].Applications[0].APIs = []config.APIGrant{{API: "accounts"}, {API: "payments"}}
	table := New(cfg, Certificates{Anchors: map[config.Name][]access.AnchorKey{"northwind": anchors(authority)}})
	const account, part, file = "accounts /accounts/{id}", "accounts /accounts/{id}/{part}", "accounts /files/**"
	for line, want := range map[string]string{
		"GET /accounts/7":                account,
		"GET /accounts/ADMIN7":           account,
		"PUT /accounts/ADMIN":            account, // the other route does not have the method
		"GET /accounts/NAMES":            account, // the more specific route has no further demands
		"GET /accounts/names":            "accounts /accounts/names",
		"GET /accounts/7/x":              part,
		"GET /files/a/b":                 file,
		"GET /files/a/":                  file,
		"GET /files/listed/":             "accounts /files/listed/", // has a route of its own
		"GET /lists/a":                   "accounts /lists/**",
		"PUT /LISTS/a":                   "accounts /LISTS/**",
		"GET /accounts/ADMIN":            "",
		"GET /accounts/aDmIn":            "",
		"GET /accounts/Bills":            "", // the route belongs to another API
		"GET /accounts/KELVIN/7":         "",
		"GET /accounts/%E2%84%AAelvin/7": "", // U+212A, the sign for Kelvin
		"GET /accounts/STRA%E1%BA%9EE/7": "", // U+1E9E, the capital of U+00DF
		"GET /files/PRIVATE":             "",
		"GET /files/private/":            "",
		"GET /files/Private/":            "",
		"GET /files/Listed/":             "", // /files/listed/ or /files/listed
		"GET /files/Listed":              "",
		"GET /lists/":                    "",
		"GET /Lists/a":                   "",
	} {
		reason, route := decideSpelled(t, table, line)
		if route != want || (reason == access.Granted) != (want != "") {
			t.Errorf("%s: got %s, route %q, want %q", line, reason, route, want)
		}
	}
}

func TestFoldCase(t *testing.T) {
	texts := []string{"", "admin", "ADMIN", "aDmIn", "kelvin", "KELVIN", "\u212aelvin", "stra\u00dfe", "STRA\u1e9eE", "mu", "\u00b5", "\u03bc", "\u039c", "a\xff", "A\xff", "\u0130", "i", "\u017f", "s"}
	for _, a := range texts {
		for _, b := range texts {
			if got := foldCase(a) == foldCase(b); utf8.ValidString(a+b) && got != strings.EqualFold(a, b) {
				t.Errorf("foldCase of %q and %q equal: got %t, want %t", a, b, got, !got)
			}
		}
	}
}
