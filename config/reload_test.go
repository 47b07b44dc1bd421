package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A setting that belongs to an open listener or an open state cannot change while the gate runs,
// and the fault has its position. All other settings can change.
func TestCheckReload(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	before := load(t, exampleFile)
	for _, c := range []struct{ old, new, want string }{
		{`address: ":8443"`, `address: ":9445"`, "listener.address"},
		{"header_bytes: 32KiB", "header_bytes: 64KiB", "listener.limits.header_bytes"},
		{"connections: 10000", "connections: 10001", "listener.limits.connections"},
		{"connections_per_address: 1000", "connections_per_address: 1001", "listener.limits.connections_per_address"},
		{"handshake_timeout: 10s", "handshake_timeout: 11s", "listener.limits.handshake_timeout"},
		{"header_timeout: 10s", "header_timeout: 11s", "listener.limits.header_timeout"},
		{"stall_timeout: 30s", "stall_timeout: 31s", "listener.limits.stall_timeout"},
		{"idle_timeout: 2m", "idle_timeout: 3m", "listener.limits.idle_timeout"},
		{"address: 127.0.0.1:9090", "address: 127.0.0.1:9092", "admin.address"},
		{"address: 127.0.0.1:9091", "address: 127.0.0.1:9093", "admin.console"},
		{`address: ":9443"`, `address: ":9446"`, "issuer.address"},
		{"body_bytes: 10MiB", "body_bytes: 11MiB", ""},
		{"requests: 10000", "requests: 10001", ""},
		{"delay: 5s", "delay: 6s", ""},
		{"token_lifetime: 5m", "token_lifetime: 6m", ""},
		{"level: info", "level: warn", ""},
	} {
		if !strings.Contains(string(text), c.old) {
			t.Errorf("the example lacks %q", c.old)
			continue
		}
		file := filepath.Join(t.TempDir(), "new.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		next, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		err = before.CheckReload(next)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("CheckReload with %s: %v, want no error", c.new, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), file+":") || !strings.Contains(err.Error(), ": "+c.want+": cannot change") || strings.Contains(err.Error(), "\n")):
			t.Errorf("CheckReload with %s: %v, want one fault of %s with its position", c.new, err, c.want)
		}
	}
	for name, edit := range map[string]func(*Config){
		"issuer":                    func(c *Config) { c.Issuer = nil },
		"issuer.issuer":             func(c *Config) { c.Issuer.Issuer = "https://other.example" },
		"issuer.state":              func(c *Config) { c.Issuer.State = "elsewhere" },
		"issuer.signing":            func(c *Config) { c.Issuer.Signing.Algorithm = EdDSA },
		"issuer.mtls_alias.address": func(c *Config) { c.Issuer.MTLSAlias = &MTLSAlias{Address: ":1"} },
	} {
		next := load(t, exampleFile)
		edit(next)
		if err := before.CheckReload(next); err == nil || !strings.Contains(err.Error(), ": "+name+": cannot change") {
			t.Errorf("CheckReload: %v, want a fault of %q alone", err, name)
		}
	}
}

// A reload does not change the folder of security events: their server does not send acknowledged events again, so the gate
// would forget revocations.
func TestCheckReloadSecurityEvents(t *testing.T) {
	with := func(name Name, events *SecurityEvents) *Config {
		return &Config{AuthorizationServers: []AuthorizationServer{
			{Name: "first", Issuer: "https://first.example"}, {Name: name, Issuer: "https://as.example", SecurityEvents: events},
		}}
	}
	before := with("as", &SecurityEvents{State: "a"})
	for name, c := range map[string]struct {
		next    *Config
		refused bool
	}{
		"another folder":          {with("as", &SecurityEvents{State: "b"}), true},
		"another folder and name": {with("renamed", &SecurityEvents{State: "b"}), true},
		"the same folder":         {with("renamed", &SecurityEvents{State: "a", MaxStaleness: time.Hour}), false},
		"no events":               {with("as", nil), false},
	} {
		err := before.CheckReload(c.next)
		if c.refused != (err != nil) || err != nil && !strings.Contains(err.Error(), "authorization_servers[1].security_events.state: cannot change") {
			t.Errorf("%s: CheckReload = %v, want an error: %t", name, err, c.refused)
		}
	}
}

// With ACME, the domains and the anchors of the directory can change. All other settings belong to
// the account or to open listeners.
func TestCheckReloadACME(t *testing.T) {
	with := func(edit func(*ACME)) *Config {
		c, settings := load(t, exampleFile), defaultACME()
		settings.Domains, settings.Email, settings.Storage = []Host{"api.example.com"}, "ops@example.com", "acme"
		edit(&settings)
		c.Listener.Certificate = ServerCertificate{ACME: &settings}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := with(func(*ACME) {})
	if directory := before.Listener.Certificate.ACME.Directory.String(); directory != "https://acme-v02.api.letsencrypt.org/directory" {
		t.Errorf("the default Directory = %s, want Let's Encrypt", directory)
	}
	other := *before.Listener.Certificate.ACME.Directory
	other.Host = "acme.internal.example"
	for name, edit := range map[string]func(*ACME){
		"":                                       func(a *ACME) { a.Domains, a.DirectoryTrust = []Host{"other.example.com"}, []Path{"root.pem"} },
		"listener.certificate.acme.email":        func(a *ACME) { a.Email = "dev@example.com" },
		"listener.certificate.acme.directory":    func(a *ACME) { a.Directory = &other },
		"listener.certificate.acme.storage":      func(a *ACME) { a.Storage = "elsewhere" },
		"listener.certificate.acme.http_address": func(a *ACME) { a.HTTPAddress = ":80" },
	} {
		err := before.CheckReload(with(edit))
		if name == "" && err != nil || name != "" && (err == nil || !strings.Contains(err.Error(), name+": cannot change") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("CheckReload: %v, want a fault of %q alone", err, name)
		}
	}
	files := load(t, exampleFile)
	for _, err := range []error{before.CheckReload(files), files.CheckReload(before)} {
		if err == nil || !strings.Contains(err.Error(), "listener.certificate: cannot change") {
			t.Errorf("CheckReload between files and acme: %v, want a fault of listener.certificate", err)
		}
	}
	if names := with(func(a *ACME) { a.DirectoryTrust = []Path{"root.pem"} }).Files(); slices.Contains(names, "acme") || !slices.Contains(names, "root.pem") {
		t.Errorf("Files() = %s, want root.pem and not acme", names)
	}
}

// Files returns the configuration file and every file that it names once, and no folders.
func TestFiles(t *testing.T) {
	c := load(t, exampleFile)
	files := c.Files()
	for _, want := range []string{exampleFile, string(c.Listener.Certificate.Files.Key), string(c.Partners.List[0].Trust[0])} {
		if n := len(slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f != want })); n != 1 {
			t.Errorf("Files() has %s %d times, want once", want, n)
		}
	}
	if slices.Contains(files, string(c.Issuer.State)) {
		t.Errorf("Files() has the folder %s, want only files", c.Issuer.State)
	}
	secrets := c.Secrets()
	for _, want := range []string{"tls.key", "gate-client-key.pem", "issuer.key"} {
		if !slices.ContainsFunc(secrets, func(f string) bool { return strings.HasSuffix(f, want) }) {
			t.Errorf("Secrets() = %q, want %s in it", secrets, want)
		}
	}
	for _, f := range secrets {
		if strings.HasSuffix(f, ".crt") || strings.HasSuffix(f, "-ca.pem") || !slices.Contains(files, f) {
			t.Errorf("Secrets() has %s, want only secrets out of Files()", f)
		}
	}
	small := &Config{Partners: Partners{List: []Partner{{Trust: []Path{"b", "a"}}, {Trust: []Path{"a"}}}}}
	if diff := cmp.Diff([]string{"a", "b"}, small.Files()); diff != "" {
		t.Errorf("Files() (-want +got):\n%s", diff)
	}
}
