package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faultsOf returns the faults of text, at least one.
func faultsOf(t *testing.T, text string) Faults {
	t.Helper()
	_, err := Parse("file.yaml", "", []byte(text))
	var faults Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("Parse error = %v, want Faults", err)
	}
	return faults
}

// A file that cannot be read is an error of another type than Faults.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFileBytes+1); err != nil { // a file with a hole: it takes no space
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for _, tt := range []struct{ file, want string }{
		{missing, "reading configuration: stat " + missing + ": no such file or directory"},
		{dir, fmt.Sprintf("reading configuration: %q is a folder", dir)},
		{pipe, fmt.Sprintf("reading configuration: %q is not a regular file", pipe)},
		{large, fmt.Sprintf("reading configuration: %q is larger than 64 MiB", large)},
	} {
		c, err := Load(tt.file)
		if c != nil || err == nil || err.Error() != tt.want {
			t.Errorf("Load = %v, %v, want %s", c, err, tt.want)
		}
		var faults Faults
		if errors.As(err, &faults) {
			t.Errorf("Load error = %v, want another type than Faults", err)
		}
	}
	if _, err := Load(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a missing file: %v, want ErrNotExist", err)
	}
}

// Relative paths are relative to the folder of the file, not to the working directory.
func TestLoadRelative(t *testing.T) {
	text, err := os.ReadFile("testdata/good-minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	want := Path(filepath.Join(dir, "tls.crt"))
	if got := load(t, "config.yaml").Listener.Certificate.Files.Certificate; got != want {
		t.Errorf("Certificate path = %q, want %q", got, want)
	}
	c, err := Parse("config.yaml", "", text)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Listener.Certificate.Files.Certificate; got != "tls.crt" {
		t.Errorf("Certificate path without a folder = %q, want it unchanged", got)
	}
}

// A few lines that stand for billions of values are refused before they are decoded.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("partners:\n  list:\n    - &p\n      name: p\n      applications:\n        - &a\n          client_id: a\n          apis:\n            - &g {api: x, methods: [GET]}\n")
	repeat := func(alias string) {
		for range 2000 {
			b.WriteString(alias)
		}
	}
	repeat("            - *g\n")
	repeat("        - *a\n")
	repeat("    - *p\n") // 2000 * 2000 * 2000 grants
	start := time.Now()
	faults := faultsOf(t, b.String())
	t.Logf("refused in %v", time.Since(start).Round(time.Millisecond))
	last := faults[len(faults)-1]
	if want := "aliases stand for more than 1000000 values"; last.Message != want {
		t.Errorf("the last of %d faults = %v, want %s", len(faults), last, want)
	}
}

// Aliases that multiply are refused where a list of lists is a fault anyway.
func TestLaughs(t *testing.T) {
	text := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'z'; c++ {
		text += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 8), c-1)
	}
	_ = faultsOf(t, text+"apis: *z\n")
}

// An alias inside the value that it names is refused, also through another alias.
func TestAliasCycle(t *testing.T) {
	for _, text := range []string{
		"apis: &a [*a]\n",
		"listener: &a {certificate: *a}\n",
		"apis: &a\n  - routes: &b\n      - *a\n      - methods: *b\n",
	} {
		_ = faultsOf(t, text)
	}
}

func TestDepth(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000),
		strings.Repeat("- ", 5000) + "a",
		strings.Repeat("[", 100_000),
	} {
		_ = faultsOf(t, "x: "+text+"\n")
		_ = faultsOf(t, text+"\n")
	}
}

// Text that is not UTF-8 is refused with its position.
func TestNotText(t *testing.T) {
	for text, want := range map[string]string{
		"# ä\nlistener: \xff\n": "file.yaml:2:11: the file is not UTF-8",
		"\xff\xfe#\x00":         "file.yaml:1:1: the file is not UTF-8; it is UTF-16: save it as UTF-8",
		"log:\n  level: info\n \tx: 1\n\t\n  y:\n\tz: 2\n": "file.yaml:3:2: found a tab; indent with spaces\nfile.yaml:6:1: found a tab; indent with spaces",
	} {
		if got := faultsOf(t, text).Error(); got != want {
			t.Errorf("faults of %q = %s, want %s", text, got, want)
		}
	}
	_ = faultsOf(t, "listener:\x00\n")
	_ = faultsOf(t, "\"\\u0000\\n\": 1\n")
}

// A file with very many faults is refused as fast as a file with few.
func TestManyFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	var b bytes.Buffer
	b.WriteString(minimalHead + "partners:\n  list:\n    - name: northwind\n      trust: [ca.pem]\n      applications:\n")
	const n = 5_000
	for i := range n {
		fmt.Fprintf(&b, "        - {client_id: a-%d, apis: [acounts], certifcate: {}}\n", i)
	}
	if got := len(faultsOf(t, b.String())); got != 2*n {
		t.Errorf("got %d faults, want %d", got, 2*n)
	}
}

// Faults of a configuration without a file have no position, and Validate changes nothing.
func TestValidateDefault(t *testing.T) {
	c := Default()
	err := c.Validate()
	want := `listener.certificate.files.certificate: is required
listener.certificate.files.key: is required
authorization_servers: at least one is required: without one, no token is accepted
apis: at least one is required`
	if err == nil || err.Error() != want {
		t.Errorf("Validate = %v, want %s", err, want)
	}
	again := c.Validate()
	if again == nil || again.Error() != want {
		t.Errorf("the second Validate = %v, want %s", again, want)
	}
}

// Two listeners need two ports, unless they listen on different addresses.
func TestOverlap(t *testing.T) {
	for _, tt := range []struct {
		a, b Address
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{":80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"[::]:80", "127.0.0.1:80", true},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"", "", false}, // neither is one
	} {
		if overlap(tt.a, tt.b) != tt.want || overlap(tt.b, tt.a) != tt.want {
			t.Errorf("overlap(%q, %q) = %v, want %v in both orders", tt.a, tt.b, overlap(tt.a, tt.b), tt.want)
		}
	}
}

// Zero values are refused.
func TestValidateZero(t *testing.T) {
	c := &Config{
		AuthorizationServers: make([]AuthorizationServer, 1),
		APIs:                 []API{{Routes: make([]Route, 1), Hosts: []Host{"a"}}},
		Partners:             Partners{List: []Partner{{Applications: []Application{{APIs: make([]APIGrant, 1), Claims: make([]StaticClaim, 1)}}}}},
		Issuer: &Issuer{
			MTLSAlias:       &MTLSAlias{},
			ResourceServers: make([]ResourceServer, 1),
			Operators:       make([]Operator, 1),
			Governance: Governance{
				make([]WorkspaceRule, 1), make([]ApplicationRule, 1), make([]ScopeRule, 1), make([]ClaimRule, 1),
			},
		},
	}
	var faults Faults
	if !errors.As(c.Validate(), &faults) {
		t.Fatal("Validate returned no Faults")
	}
	found := make(map[string]bool)
	for _, f := range faults {
		found[f.Path] = true
	}
	for _, path := range []string{
		"listener.address", "listener.certificate.files.certificate", "listener.certificate.files.key", "listener.minimum_version",
		"listener.client_certificates.on_failure", "listener.client_certificates.revocation.refresh",
		"listener.client_certificates.revocation.when_stale", "listener.limits.header_bytes", "listener.limits.body_bytes", "listener.limits.connections",
		"listener.limits.header_timeout", "listener.limits.stall_timeout", "listener.limits.idle_timeout",
		"authorization_servers[0].name", "authorization_servers[0].issuer", "authorization_servers[0].audiences",
		"authorization_servers[0].algorithms", "authorization_servers[0].types", "authorization_servers[0].key_set.refresh",
		"authorization_servers[0].key_set.cool_down",
		"apis[0].name", "apis[0].upstream.url", "apis[0].upstream.timeout", "apis[0].routes[0].methods", "apis[0].routes[0].path",
		"partners.list[0].name", "partners.list[0].trust", "partners.list[0].applications[0].client_id",
		"partners.list[0].applications[0].authentication", "partners.list[0].applications[0].apis[0].api",
		"identity_headers.prefix", "issuer.issuer", "issuer.address", "issuer.state", "issuer.audience", "issuer.token_lifetime", "issuer.max_token_lifetime",
		"issuer.signing.algorithm", "issuer.signing.rotate", "issuer.mtls_alias.url", "issuer.mtls_alias.address",
		"issuer.limits.per_client.burst", "issuer.limits.per_address.requests_per_second",
		"issuer.resource_servers[0].client_id", "issuer.resource_servers[0].authentication", "issuer.resource_servers[0].certificate",
		"issuer.resource_servers[0].resources", "issuer.operators[0].name", "issuer.operators[0].trust", "issuer.operators[0].certificate",
		"issuer.operators[0].permissions", "issuer.governance.workspace[0]", "issuer.governance.application[0].client_id",
		"issuer.governance.scope[0].scope", "issuer.governance.claims[0].claim", "issuer.governance.claims[0].value",
		"partners.list[0].applications[0].claims[0].name",
		"admin.address",
	} {
		if !found[path] {
			t.Errorf("got no fault for %s, want one", path)
		}
	}
}

// Parse never panics. A configuration that it returns is valid, and otherwise it returns faults,
// each with its position and on one line.
func FuzzLoad(f *testing.F) {
	files := append(testdata(f, "*.yaml"), exampleFile)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("fuzz.yaml", "/etc/tallygate", text)
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Errorf("Validate of a parsed configuration: %v, want no error", err)
			}
			return
		}
		var faults Faults
		if !errors.As(err, &faults) || len(faults) == 0 || c != nil {
			t.Fatalf("Parse = %v, %v, want nil and Faults", c, err)
		}
		for _, fault := range faults {
			if fault.File != "fuzz.yaml" || fault.Line < 1 || fault.Column < 1 || fault.Message == "" || strings.ContainsAny(fault.Error(), "\n\r\x00") {
				t.Errorf("got the fault %#v, want a position and one line", fault)
			}
		}
	})
}

func ExampleParse() {
	_, err := Parse("gate.yaml", "/etc/tallygate", []byte("lisener:\n  address: :8443\n"))
	var faults Faults
	if errors.As(err, &faults) {
		fmt.Println(faults[0])
	}
	// Output: gate.yaml:1:1: unknown key "lisener", did you mean "listener"?
}
