package config

import (
	"encoding"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

const exampleFile = "../config.example.yaml"

// The example is valid and has every key. A type that occurs in several places need have its keys
// in one of them.
func TestExample(t *testing.T) {
	c := load(t, exampleFile)
	mentioned := make(map[reflect.Type]map[string]bool)
	mention(mentioned, c, reflect.TypeFor[Config](), []string{""})
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	for of, keys := range mentioned {
		for key, found := range keys {
			// Keys that exclude each other are comments.
			if !found && !regexp.MustCompile(`(?m)^ *# +`+key+`:( \S|$)`).Match(text) {
				t.Errorf("the example lacks the key %s of %v", key, of)
			}
		}
	}
}

// The settings for front proxies, which the example has as comments, are valid.
func TestExampleFront(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	content := strings.Replace(string(text), "from: tls\n", "from: header\n", 1)
	content = regexp.MustCompile(`(?m)^    # header:\n(    #   .*\n)+`).ReplaceAllStringFunc(content, func(block string) string {
		return regexp.MustCompile(`(?m)^    # `).ReplaceAllString(block, "    ")
	})
	c, err := Parse(exampleFile, "", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	want := &CertificateHeader{
		Formats: []HeaderFormat{FormatRFC9440, FormatXFCC, FormatPEM}, PEMHeader: "X-Ssl-Client-Cert",
		TrustedProxies: TrustedProxies{
			Addresses:    []Network{{netip.MustParsePrefix("10.0.0.0/8")}},
			Certificates: &ProxyCertificates{SANDNS: []string{"lb.internal"}, Trust: []Path{"front-ca.pem"}},
		},
	}
	if got := c.Listener.ClientCertificates.Header; !reflect.DeepEqual(got, want) {
		t.Errorf("Header = %+v, want %+v", got, want)
	}
}

// The settings for the revocations of another process, which the example has as comments, are valid.
func TestExampleRevocations(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	// A jwks_uri and pushed events need an issuer in the same file.
	content := regexp.MustCompile(`(?m)^issuer:\n(?: .*\n|\n)*|^ +- client_id: southridge-fetched\n(?: .*\n)*|^    security_events:\n(?:     .*\n)*`).ReplaceAllString(string(text), "")
	content = regexp.MustCompile(`(?m)^# revocations:\n(?:#   .*\n)+`).ReplaceAllStringFunc(content, func(block string) string {
		return regexp.MustCompile(`(?m)^# `).ReplaceAllString(block, "")
	})
	c, err := Parse(exampleFile, "", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Revocations
	want := Revocations{Server: r.Server, Feeds: r.Feeds, ClientID: r.ClientID, State: r.State}
	defaults := Revocations{}
	setDefaults(&defaults)
	want.MaxStaleness, want.WhenStale, want.ReadyBeforeSync = defaults.MaxStaleness, defaults.WhenStale, defaults.ReadyBeforeSync
	if diff := cmp.Diff(&want, r); diff != "" || len(r.Feeds) != 2 {
		t.Errorf("%d feeds, want 2; (-defaults +example):\n%s", len(r.Feeds), diff)
	}
	if s := c.RevocationServer(); s == nil || s.Name != r.Server {
		t.Errorf("RevocationServer = %+v, want the server %s", s, r.Server)
	}
}

// The feed is at the issuer by default, and its URL has the gate's client_id.
func TestFeedURLs(t *testing.T) {
	r := &Revocations{ClientID: "orders&gate"}
	for issuer, want := range map[Identifier]string{
		"https://as.example.com":       "https://as.example.com/revocations?client_id=orders%26gate",
		"https://as.example.com/a%2Fb": "https://as.example.com/a%2Fb/revocations?client_id=orders%26gate",
		"https://as.example.com/x/":    "https://as.example.com/x/revocations?client_id=orders%26gate",
	} {
		if got := r.FeedURLs(issuer); len(got) != 1 || got[0].String() != want {
			t.Errorf("FeedURLs(%s) = %v, want %s", issuer, got, want)
		}
	}
}

// mention records which keys of the type, and of all types inside it, the file of c has. paths are
// the paths of the values of the type.
func mention(mentioned map[reflect.Type]map[string]bool, c *Config, of reflect.Type, paths []string) {
	switch {
	case isScalarType(of):
	case of.Kind() == reflect.Pointer:
		mention(mentioned, c, of.Elem(), paths)
	case of.Kind() == reflect.Slice:
		var elements []string
		for _, path := range paths {
			for i := 0; c.source.Has(strictyaml.Index(path, i)); i++ {
				elements = append(elements, strictyaml.Index(path, i))
			}
		}
		mention(mentioned, c, of.Elem(), elements)
	default:
		if mentioned[of] == nil {
			mentioned[of] = make(map[string]bool)
		}
		for f := range of.Fields() {
			key := f.Tag.Get("yaml")
			if key == "" && !f.IsExported() {
				continue
			}
			var found []string
			for _, path := range paths {
				if path = strictyaml.Key(path, key); c.source.Has(path) {
					found = append(found, path)
				}
			}
			mentioned[of][key] = mentioned[of][key] || len(found) > 0
			mention(mentioned, c, f.Type, found)
		}
	}
}

// isScalarType reports whether values of the type have no keys of their own. An APIGrant has
// keys, although it can be written as a word.
func isScalarType(of reflect.Type) bool {
	kind := of.Kind()
	return kind != reflect.Struct && kind != reflect.Slice && kind != reflect.Pointer ||
		reflect.PointerTo(of).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && of != reflect.TypeFor[APIGrant]()
}

// Where a comment of the example names a default, the default is correct.
func TestExampleDefaults(t *testing.T) {
	c, want := load(t, exampleFile), Default()
	var server AuthorizationServer
	setDefaults(&server)
	profile := ProfileRFC9068.defaults()
	var introspection Introspection
	setDefaults(&introspection)
	var api API
	setDefaults(&api)
	var application Application
	setDefaults(&application)
	var issuer Issuer
	setDefaults(&issuer)
	first, ledger := c.AuthorizationServers[0], c.Partners.List[0].Applications[0]
	c.IdentityHeaders.Certificate = ""
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"listener.address", c.Listener.Address, want.Listener.Address},
		{"listener.minimum_version", c.Listener.MinimumVersion, want.Listener.MinimumVersion},
		{"listener.limits", c.Listener.Limits, want.Listener.Limits},
		{"from", c.Listener.ClientCertificates.From, want.Listener.ClientCertificates.From},
		{"on_failure", c.Listener.ClientCertificates.OnFailure, want.Listener.ClientCertificates.OnFailure},
		{"revocation.refresh", c.Listener.ClientCertificates.Revocation.Refresh, want.Listener.ClientCertificates.Revocation.Refresh},
		{"revocation.when_stale", c.Listener.ClientCertificates.Revocation.WhenStale, want.Listener.ClientCertificates.Revocation.WhenStale},
		{"profile", first.Profile, server.Profile},
		{"algorithms", first.Algorithms, profile.algorithms},
		{"types", first.Types, profile.types},
		{"client_claim", first.ClientClaim, profile.clientClaim},
		{"subject_claim", first.SubjectClaim, server.SubjectClaim},
		{"audience_claim", first.AudienceClaim, profile.audienceClaim},
		{"scope_claim", first.ScopeClaim, profile.scopeClaim},
		{"scope_prefix", first.ScopePrefix, server.ScopePrefix},
		{"roles_as_scopes", first.RolesAsScopes, profile.rolesAsScopes},
		{"confirmation_claim", first.ConfirmationClaim, profile.confirmation},
		{"leeway", first.Leeway, server.Leeway},
		{"refresh", first.KeySet.Refresh, server.KeySet.Refresh},
		{"cool_down", first.KeySet.CoolDown, server.KeySet.CoolDown},
		{"max_stale", first.KeySet.MaxStale, server.KeySet.MaxStale},
		{"cache", first.Cache, server.Cache},
		{"required", first.Required, server.Required},
		{"also_introspect", first.AlsoIntrospect, server.AlsoIntrospect},
		{"insecure_loopback_http", first.Connection.InsecureLoopbackHTTP, server.Connection.InsecureLoopbackHTTP},
		{"proxy_from_environment", first.Connection.ProxyFromEnvironment, server.Connection.ProxyFromEnvironment},
		{"introspection.authentication", first.Introspection.Authentication, introspection.Authentication},
		{"introspection.signed", first.Introspection.Signed, introspection.Signed},
		{"introspection.insecure_audience_optional", first.Introspection.InsecureAudienceOptional, introspection.InsecureAudienceOptional},
		{"introspection.text_times", first.Introspection.TextTimes, introspection.TextTimes},
		{"introspection.timeout", first.Introspection.Timeout, introspection.Timeout},
		{"introspection.concurrency", first.Introspection.Concurrency, introspection.Concurrency},
		{"introspection.cache", first.Introspection.Cache, introspection.Cache},
		{"timeout", c.APIs[0].Upstream.Timeout, api.Upstream.Timeout},
		{"protocol", c.APIs[0].Upstream.Protocol, api.Upstream.Protocol},
		{"identity_headers", c.IdentityHeaders, want.IdentityHeaders},
		{"authentication", ledger.Authentication, application.Authentication},
		{"bound_tokens", ledger.BoundTokens, application.BoundTokens},
		{"token_format", ledger.TokenFormat, application.TokenFormat},
		{"issuer.signing.algorithm", c.Issuer.Signing.Algorithm, issuer.Signing.Algorithm},
		{"issuer.signing.rotate", c.Issuer.Signing.Rotate, issuer.Signing.Rotate},
		{"issuer.token_lifetime", c.Issuer.TokenLifetime, issuer.TokenLifetime},
		{"issuer.max_token_lifetime", c.Issuer.MaxTokenLifetime, issuer.MaxTokenLifetime},
		{"issuer.require_bound", c.Issuer.RequireBound, issuer.RequireBound},
		{"issuer.limits", c.Issuer.Limits, issuer.Limits},
		{"admin.address", c.Admin.Address, want.Admin.Address},
		{"drain", c.Drain, want.Drain},
		{"log", c.Log, want.Log},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-default +example):\n%s", tt.name, diff)
		}
	}
}

// Every exported field has a key of lower-case words and numbers, and fields without a key come
// last, as strictyaml.Decode requires.
func TestKeys(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		switch {
		case isScalarType(of):
		case of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice:
			walk(of.Elem())
		default:
			others := false
			for f := range of.Fields() {
				key := f.Tag.Get("yaml")
				if f.IsExported() != (key != "") || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
					t.Errorf("%v.%s has the key %q, want lower-case letters, digits and underscores", of, f.Name, key)
				}
				if others = others || key == ""; others && key != "" {
					t.Errorf("%v.%s follows a field without key, want it before", of, f.Name)
				}
				if key != "" {
					walk(f.Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}
