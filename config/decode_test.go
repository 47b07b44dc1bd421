package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, file string) *Config {
	t.Helper()
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Settings that a minimal file leaves out have their defaults, also in the elements of lists.
func TestDefaults(t *testing.T) {
	c := load(t, "testdata/good-minimal.yaml")
	want := Default()
	if c.Listener.Limits != want.Listener.Limits || c.Admin.Address != want.Admin.Address || len(c.Admin.Hosts) != 0 || c.Log != want.Log || c.IdentityHeaders != want.IdentityHeaders {
		t.Errorf("Load = %+v, want the defaults %+v", c, want)
	}
	server := c.AuthorizationServers[0]
	if diff := cmp.Diff([]Algorithm{ES256, PS256, EdDSA}, server.Algorithms); diff != "" {
		t.Errorf("Algorithms (-want +got):\n%s", diff)
	}
	if server.Leeway != 30*time.Second || server.KeySet.MaxStale != 24*time.Hour || server.Cache.Entries != 100_000 || server.Types[0] != "at+jwt" {
		t.Errorf("AuthorizationServers[0] = %+v, want the defaults", server)
	}
	if got := c.APIs[0].Upstream.Timeout; got != 30*time.Second {
		t.Errorf("Upstream.Timeout = %v, want 30s", got)
	}
	if got := c.Partners.List[0].Applications[0].Authentication; got != TLSClientAuth {
		t.Errorf("Authentication = %q, want %q", got, TLSClientAuth)
	}
	if c.Issuer != nil || c.IdentityHeaders.Certificate != "" || c.Listener.ClientCertificates.SelfSigned {
		t.Errorf("got Issuer %v, Certificate header %q, SelfSigned %v, want none of them", c.Issuer, c.IdentityHeaders.Certificate, c.Listener.ClientCertificates.SelfSigned)
	}
}

// Unusual but valid settings are accepted, with the defaults of our own issuer.
func TestIssuerForms(t *testing.T) {
	c := load(t, "testdata/good-issuer.yaml")
	if got := load(t, "testdata/good-minimal.yaml").Partners.List[0].Applications[0]; !got.BoundTokens || got.TokenFormat != JWT || got.DefaultScopes != nil || got.Resources != nil {
		t.Errorf("Applications[0] = %+v, want the defaults of tokens", got)
	}
	ledger, want := c.Partners.List[0].Applications[2], []Scope{}
	if ledger.BoundTokens || ledger.TokenFormat != Opaque || ledger.TokenLifetime != 0 || !cmp.Equal(want, ledger.DefaultScopes) {
		t.Errorf("Applications[2] = %+v, want opaque tokens without default scopes", ledger)
	}
	own := c.Issuer
	if own.Signing.Rotate != 30*24*time.Hour || own.RequireBound || own.Limits.PerClient.Burst != 100 || own.ResourceServers[0].Authentication != TLSClientAuth {
		t.Errorf("Issuer = %+v, want the defaults", own)
	}
}

// Values are taken unchanged: an explicit zero replaces the default, text is text also where YAML
// would read a number, a boolean or a date, and nothing is expanded (T-CFG-04).
func TestForms(t *testing.T) {
	c := load(t, "testdata/good-forms.yaml")
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	first, second := &c.AuthorizationServers[0], &c.AuthorizationServers[1]
	applications := c.Partners.List[0].Applications
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"number as text", c.Listener.MinimumVersion, TLS13},
		{"absolute path", c.Listener.Certificate.Files.Certificate, Path("/etc/tls/tls.crt")},
		{"relative path", c.Listener.Certificate.Files.Key, Path(filepath.Join(filepath.Dir(dir), "tls.key"))},
		{"bytes", c.Listener.Limits.HeaderBytes, Bytes(65536)},
		{"unit", c.Listener.Limits.BodyBytes, Bytes(1 << 30)},
		{"quoted number", first.Name, Name("1")},
		{"issuer byte for byte", first.Issuer, Identifier("https://as.example.com/realms/%7Ea")},
		{"explicit zero duration", first.Leeway, time.Duration(0)},
		{"explicit zero", first.Cache.Entries, 0},
		{"empty path", first.KeySet.File, Path("")},
		{"yes is text", second.Name, Name("yes")},
		{"alias of a list", second.Audiences, first.Audiences},
		{"list over its default", second.Types, []string{"JWT"}},
		{"empty URL", second.KeySet.URL == nil, true},
		{"relative path in a list element", second.KeySet.File, Path(filepath.Join(dir, "keys.json"))},
		{"hosts", c.APIs[0].Hosts, []Host{"api.example.com", "127.0.0.1", "2001:db8::1", "::1"}},
		{"date as text", c.Partners.List[0].Name, Name("2026-11-22")},
		{"bool", c.Partners.List[0].Disabled, true},
		{"no expansion", applications[0].ClientID, ClientID("${CLIENT_ID}")},
		{"empty name", applications[0].Certificate.SubjectDN.IsZero(), true},
		{"last byte of three spellings", []byte{applications[0].Certificate.Thumbprints[0][31], applications[0].Certificate.Thumbprints[1][31], applications[0].Certificate.Thumbprints[2][31]}, []byte{0xfd, 0xfe, 0xff}},
		{"alias of grants", applications[1].APIs, []APIGrant{{API: "accounts", Methods: []Method{"POST"}}}},
		{"canonical header (T-HDR-03)", c.IdentityHeaders.Partner, HeaderName("X-Tally-Partner")},
		{"canonical prefix", c.IdentityHeaders.Prefix, HeaderName("X-Tally-")},
		{"header that is not sent", c.IdentityHeaders.ClientID, HeaderName("")},
		{"level", c.Log.Level, LogLevel(slog.LevelDebug)},
		{"granted", c.Log.Granted, LogAll},
		{"paths", c.Log.Paths, LogUnmatchedPaths},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Environment variables change nothing (T-CFG-04).
func TestEnvironment(t *testing.T) {
	t.Setenv("CLIENT_ID", "expanded")
	c := load(t, "testdata/good-forms.yaml")
	if got := c.Partners.List[0].Applications[0].ClientID; got != "${CLIENT_ID}" {
		t.Errorf("ClientID = %q, want ${CLIENT_ID}", got)
	}
}

// The byte order marks and carriage returns of some editors are accepted.
func TestEditors(t *testing.T) {
	text, err := os.ReadFile("testdata/good-minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crlf []byte
	for _, c := range text {
		if c == '\n' {
			crlf = append(crlf, '\r')
		}
		crlf = append(crlf, c)
	}
	for name, text := range map[string][]byte{"mark": append([]byte("\ufeff"), text...), "carriage returns": crlf} {
		if _, err := Parse(name, "", text); err != nil {
			t.Errorf("Parse with %s: %v", name, err)
		}
	}
}

func TestPosition(t *testing.T) {
	const file = "testdata/good-forms.yaml"
	c := load(t, file)
	for _, tt := range []struct {
		path         string
		line, column int
	}{
		{"", 2, 1},
		{"listener", 3, 3},
		{"listener.limits.body_bytes", 6, 45},
		{"authorization_servers[1].audiences", 16, 16},    // the alias
		{"authorization_servers[1].audiences[1]", 10, 53}, // inside the value that it names
		{"apis[0].hosts[2]", 29, 41},
		{"partners.list[0].applications[0].apis[0].api", 45, 33},
		{"partners.list[0].applications[0].apis[0].methods[0]", 45, 53},
		{"partners.list[0].applications[9].client_id", 38, 9}, // no such element: the list
		{"apis[0].hosts.x", 29, 12},
		{"issuer.address", 2, 1},
		{"listener.address", 3, 3},
	} {
		if got, want := c.Position(tt.path), (Position{File: file, Line: tt.line, Column: tt.column}); got != want {
			t.Errorf("Position(%q) = %v, want %v", tt.path, got, want)
		}
	}
	if got := Default().Position("listener"); got != (Position{}) {
		t.Errorf("Position without a file = %v, want the zero Position", got)
	}
}
