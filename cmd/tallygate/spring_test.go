package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/gatetest"
)

const springFixture = "testdata/spring-authorization-server"

// TestSpring runs docs/servers/spring.md with a real Spring Authorization Server, with a bean of
// the page that changes the tokens, and without it. TALLYGATE_SPRING=1 turns it on; Maven gets the
// server.
func TestSpring(t *testing.T) {
	for name, variant := range map[string]struct{ profile, block string }{
		"with the bean":    {"rfc9068", "audiences: [https://api.example.com]"},
		"without the bean": {"default", "types: [absent]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newRealServer(t, "TALLYGATE_SPRING")
			for _, name := range []string{"ledger", "again"} { // the server takes a single certificate for a self-signed one
				f.pairs[name].Intermediates = append(f.pairs[name].Intermediates, f.pairs["northwind-ca"].Cert)
			}
			port := freePort(t)
			f.issuer = "https://127.0.0.1:" + port
			gatetest.NeedPrograms(t, "java")
			server := exec.Command("java", "-jar", f.springServer(), "--spring.profiles.active="+variant.profile)
			server.Env = append(os.Environ(), "ISSUER="+f.issuer, "PORT="+port)
			f.run(server)
			f.fetch("bound", "/oauth2/token", "ledger", "northwind-ledger")
			f.fetch("of again", "/oauth2/token", "again", "northwind-ledger")
			f.fetch("unbound", "/oauth2/token", "ledger", "northwind-reports")
			f.unbound("unbound")
			f.gateOf("spring.md", "https://as.example.com", variant.block)
			f.binds()
			f.end()
			f.proposes("spring.md", variant.block)
		})
	}
}

// springServer builds the server and returns its program.
func (f *foreign) springServer() string {
	f.t.Helper()
	folder := filepath.Join(f.dir, "spring")
	if err := os.CopyFS(folder, os.DirFS(springFixture)); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), serverStart)
	defer cancel()
	gatetest.NeedPrograms(f.t, "mvn")
	build := exec.CommandContext(ctx, "mvn", "--quiet", "--batch-mode", "package")
	build.Dir = folder
	if out, err := build.CombinedOutput(); err != nil {
		f.t.Fatalf("mvn package: %v\n%s", err, out)
	}
	return filepath.Join(folder, "target/server.jar")
}

// The code of docs/servers/spring.md is the code that TestSpring runs.
func TestSpringPage(t *testing.T) {
	for file, language := range map[string]string{"src/main/java/foreign/Server.java": "java", "src/main/resources/application.properties": "properties"} {
		source, err := os.ReadFile(filepath.Join(springFixture, file))
		if err != nil {
			t.Fatal(err)
		}
		blocks := pageBlocks(t, "spring.md", language)
		if len(blocks) == 0 {
			t.Errorf("spring.md has no block of %s", language)
		}
		for _, block := range blocks {
			if !strings.Contains(string(source), block) {
				t.Errorf("%s lacks this block of spring.md:\n%s", file, block)
			}
		}
	}
}
