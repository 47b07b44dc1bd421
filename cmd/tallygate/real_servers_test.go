package main

import (
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// serverStart bounds the start of an authorization server that runs in a Java VM. On a machine with
// two busy cores Keycloak takes a minute and a half.
const serverStart = 5 * time.Minute

// sections completes the configuration of a page in docs/servers.
const sections = `
listener:
  address: 127.0.0.1:0
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
apis:
  - name: accounts
    hosts: [api.example.test]
    upstream: {url: "UPSTREAM"}
    routes: [{methods: [GET], path: "/accounts/{id}", scopes: [accounts:read]}]
admin: {address: "127.0.0.1:0"}
log: {level: debug, granted: all}
`

// newRealServer returns a gate's environment for the product of a page in docs/servers. The test is
// skipped unless the variable is 1. The certificates ledger and again have the subject and the name
// of northwind-ledger, and different keys.
func newRealServer(t *testing.T, variable string) *foreign {
	t.Helper()
	if os.Getenv(variable) != "1" {
		t.Skipf("%s is not 1", variable)
	}
	dir := t.TempDir()
	f := &foreign{testGate: newTestGate(dir), t: t}
	t.Cleanup(f.close)
	internal := testpki.NewCA("Internal Root")
	internal.Write(dir, "as-ca")
	internal.Write(dir, "internal-ca") // for clientOf
	internal.Leaf("as", testpki.IP("127.0.0.1"), testpki.DNS("localhost")).Write(dir, "as")
	for _, name := range []string{"ledger", "again"} {
		f.pairs[name] = f.pairs["northwind-ca"].Leaf(name, testpki.DNS("ledger.northwind.example"), testpki.Subject(pkix.Name{
			Country: []string{"DE"}, Organization: []string{"Northwind"}, OrganizationalUnit: []string{"Back Office"}, CommonName: "ledger",
		}))
		f.pairs[name].Write(dir, name)
	}
	return f
}

// run starts the authorization server and waits until it has metadata. The process and its children
// end with the test.
func (f *foreign) run(server *exec.Cmd) {
	f.t.Helper()
	output := &gatetest.Log{}
	server.Dir, server.Stdout, server.Stderr = f.dir, output, output
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := server.Start(); err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	f.t.Cleanup(func() {
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		<-ended
		if f.t.Failed() {
			f.t.Logf("the server says:\n%s", output.Bytes())
		}
	})
	client, master := f.clientOf("ledger"), f.issuer
	if base, _, isRealm := strings.Cut(f.issuer, "/realms/"); isRealm {
		master = base + "/realms/master" // the realm does not exist yet
	}
	status := 0
	gatetest.Within(serverStart, func() bool {
		if response, err := client.Get(master + "/.well-known/openid-configuration"); err == nil {
			_ = response.Body.Close()
			status = response.StatusCode
		}
		return status == http.StatusOK || len(ended) > 0
	})
	if status != http.StatusOK {
		f.t.Fatalf("the server ended: %t; the status of its metadata is %d, want 200 within %s\n%s", len(ended) > 0, status, serverStart, output.Bytes())
	}
}

// pageBlocks returns the blocks of a language on a page in docs/servers.
func pageBlocks(t *testing.T, page, language string) (blocks []string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../docs/servers", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}

// pageBlock returns the only block that contains text.
func pageBlock(t *testing.T, page, language, text string) string {
	t.Helper()
	blocks := slices.DeleteFunc(pageBlocks(t, page, language), func(block string) bool { return !strings.Contains(block, text) })
	if len(blocks) != 1 {
		t.Fatalf("%s: got %d blocks of %s with %q, want 1", page, len(blocks), language, text)
	}
	return blocks[0]
}

// gateOf starts the gate with the configuration of a page that contains text. The server's issuer
// replaces the issuer in the page.
func (f *foreign) gateOf(page, published, text string) {
	f.t.Helper()
	f.gateWith(strings.Replace(pageBlock(f.t, page, "yaml", text), published, f.issuer, 1))
}

// gateWith starts the gate with a configuration that sections completes.
func (f *foreign) gateWith(configuration string) {
	f.t.Helper()
	f.write("gate.yaml", configuration+strings.Replace(sections, "UPSTREAM", f.upstream.url(), 1))
	if err := f.start(binary(f.t), filepath.Join(f.dir, "gate.yaml")); err != nil {
		f.t.Fatal(err)
	}
	f.ready()
}

// proposes checks that configure-server finds a configuration for the token bound, with which the
// gate grants and refuses. The partners are those of the page.
func (f *foreign) proposes(page, text string) {
	f.t.Helper()
	f.write("bound.jwt", f.tokens["bound"])
	command := exec.Command(binary(f.t), "configure-server", f.issuer, "--ca", "as-ca.pem", "--token", "bound.jwt")
	command.Dir = f.dir
	var found strings.Builder
	command.Stderr = &found
	block, err := command.Output()
	if err != nil {
		f.t.Fatalf("configure-server: %v\n%s", err, found.String())
	}
	f.t.Logf("configure-server prints:\n%s%s", found.String(), block)
	_, partners, _ := strings.Cut(pageBlock(f.t, page, "yaml", text), "\npartners:")
	f.gateWith(string(block) + "partners:" + partners)
	f.passes("bound", "ledger")
	f.fails("bound", "again", 401, "bound_to_previous", "invalid_token")
	f.end()
}

// fetch gets a token of the application clientID with a certificate and stores it under a name.
func (f *foreign) fetch(name, path, certificate, clientID string) {
	f.t.Helper()
	var response struct {
		AccessToken string `json:"access_token"`
	}
	body := f.post(certificate, path, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "scope": {"accounts:read"},
	})
	if err := json.Unmarshal(body, &response); err != nil || strings.Count(response.AccessToken, ".") != 2 {
		f.t.Fatalf("reading the response of the token endpoint: %v, want a JWT", err)
	}
	f.tokens[name] = response.AccessToken
}

// unbound checks that the server did not bind a token.
func (f *foreign) unbound(name string) {
	f.t.Helper()
	if claims := payload(f.t, f.tokens[name]); strings.Contains(claims, `"cnf"`) {
		f.t.Fatalf("the token %s has a confirmation, want none: %s", name, claims)
	}
}

// payload returns the claims of a JWT as text.
func payload(t *testing.T, token string) string {
	t.Helper()
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(claims)
}

// binds checks what callers get with the tokens bound (to the certificate ledger), of again
// (bound to the certificate again) and unbound, twice, so that the cache is asked too. No refused request reaches the upstream.
func (f *foreign) binds() {
	f.t.Helper()
	for range 2 {
		f.passes("bound", "ledger")
		f.fails("bound", "again", 401, "bound_to_previous", "invalid_token")
		f.fails("bound", "northwind", 401, "bound_to_other", "invalid_token")
		f.fails("bound", "borealis", 401, "untrusted_certificate", "invalid_token")
		f.fails("bound", "", 401, "no_certificate", "invalid_token")
		f.fails("unbound", "ledger", 401, "not_bound", "invalid_token")
		f.fails("unbound", "", 401, "no_certificate", "invalid_token")
	}
	f.tokens["altered"] = f.tokens["bound"][:len(f.tokens["bound"])-8] + "AAAAAAAA"
	f.passes("of again", "again")
	f.fails("of again", "ledger", 401, "bound_to_previous", "invalid_token")
	f.fails("altered", "ledger", 401, "bad_signature", "invalid_token")
}
