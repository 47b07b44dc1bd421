package main

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/cli"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// TestPageConfigurations checks that the sections of configuration that the pages show are valid,
// each in a configuration that has the sections that the block lacks.
func TestPageConfigurations(t *testing.T) {
	dir := t.TempDir()
	testpki.SelfSigned("gate", testpki.DNS("api.example.com")).Write(dir, "gate")
	for _, name := range []string{"as-ca", "database-ca", "front-ca", "internal-ca", "northwind-ca", "operations-ca"} {
		testpki.NewCA(name).Write(dir, name)
	}
	for name, secret := range map[string]string{"tallygate-database": "password", "signing-key-encryption": base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:32])} {
		gatetest.WriteFile(t, filepath.Join(dir, name), []byte(secret))
	}
	const sections = `listener:
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
authorization_servers:
  - {name: partners, issuer: "https://as.example.com", audiences: ["https://api.example.com"]}
apis:
  - name: accounts
    hosts: [api.example.com]
    upstream: {url: "http://127.0.0.1:8080"}
    routes: [{methods: [GET], path: "/accounts/{id}", scopes: [accounts:read]}]
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications:
        - {client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts], scopes: [accounts:read]}
`
	section := regexp.MustCompile(`(?m)^(\w+):.*\n(?: .*\n)*`)
	checked := 0
	pages := []string{"../../docs/authorization-servers.md", "../../docs/console.md", "../../docs/issuer.md", "../../docs/load-balancers.md", "../../docs/migrating-ingress.md", "../../docs/operations.md", "../../docs/revocation.md"}
	recipes, err := filepath.Glob("../../docs/servers/*.md")
	if err != nil || len(recipes) == 0 {
		t.Fatalf("docs/servers has %d pages, %v", len(recipes), err)
	}
	for _, page := range append(pages, recipes...) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(\\w.*?)```").FindAllStringSubmatch(string(content), -1) {
			if strings.HasPrefix(block[1], "apiVersion:") {
				continue // a manifest, which charts/test decodes
			}
			text := strings.NewReplacer("/var/lib/tallygate", filepath.Join(dir, "state"), "/run/secrets", dir).Replace(block[1])
			for _, m := range section.FindAllStringSubmatch(sections, -1) {
				switch {
				case !strings.Contains("\n"+text, "\n"+m[1]+":"):
					text += m[0]
				case m[1] == "listener" && !strings.Contains(text, "\n  certificate:"):
					text = strings.Replace(text, "listener:\n", m[0], 1)
				}
			}
			if !strings.Contains(text, "\n  address:") { // a block about a part of the issuer
				text = strings.Replace(text, "issuer:\n", "issuer:\n  issuer: https://as.example.com\n  address: 127.0.0.1:9443\n  state: state\n  audience: https://api.example.com\n", 1)
			}
			file := filepath.Join(dir, "tallygate.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr strings.Builder
			if code := cli.Run(t.Context(), []string{"check", "--config", file}, &stdout, &stderr); code != cli.ExitOK {
				t.Errorf("%s: check exits with %d, want %d: %s\n%s", page, code, cli.ExitOK, stderr.String(), text)
			}
			checked++
		}
	}
	if want := 10 + len(recipes); checked < want {
		t.Errorf("got %d blocks of configuration, want at least %d", checked, want)
	}
}
