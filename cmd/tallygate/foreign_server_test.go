package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// The resources of the foreign server: its tokens are opaque for the first resource, and JWTs for
// the second.
const (
	opaqueResource = "https://api.example.test"
	jwtResource    = "https://jwt.example.test"
)

// A foreign is a gate process and a real authorization server: Node's certified oidc-provider,
// which a test makes fail and recover.
type foreign struct {
	*testGate
	t      *testing.T
	issuer string
	alias  string // the host with its endpoints for mutual TLS
	orders io.Writer
	told   *bufio.Scanner
}

// newForeign starts the server. Its clients are the gate and applications of two partners, each
// with its own authority.
func newForeign(t *testing.T) *foreign {
	t.Helper()
	notShort(t)
	gatetest.NeedPrograms(t, "node", "npm")
	dir := t.TempDir()
	f := &foreign{testGate: newTestGate(dir), t: t}
	t.Cleanup(f.close)
	internal := testpki.NewCA("Internal Root")
	f.pairs["internal-ca"] = internal
	f.pairs["sync"] = f.pairs["borealis-ca"].Leaf("sync", testpki.DNS("sync.borealis.example"))
	f.pairs["plain"] = f.pairs["northwind-ca"].Leaf("plain", testpki.DNS("plain.example.test"))
	internal.Write(dir, "internal-ca")
	internal.Leaf("as", testpki.IP("127.0.0.1"), testpki.DNS("localhost")).Write(dir, "as")
	internal.Leaf("gate", testpki.DNS("gate.example.test")).Write(dir, "gate-client")
	assertion := testpki.SelfSigned("assertion")
	assertion.Write(dir, "assertion")
	f.write("clients-ca.pem", string(internal.CertPEM())+string(f.pairs["northwind-ca"].CertPEM())+string(f.pairs["borealis-ca"].CertPEM()))
	f.write("basic.txt", "basic secret/+%41\n")
	f.write("post.txt", "post secret/+%41\n")

	jwk, err := json.Marshal((&testpki.Signer{Key: assertion.Key, Algorithm: "ES256"}).JWK(testpki.M{"kid": nil}))
	if err != nil {
		t.Fatal(err)
	}
	installNode(t, dir, "oidc-provider")
	port := freePort(t)
	f.issuer, f.alias = "https://127.0.0.1:"+port, "localhost:"+port
	server := exec.Command("node", "server.mjs")
	server.Dir = dir
	server.Env = append(os.Environ(), "ISSUER="+f.issuer, "ALIAS=https://"+f.alias, "AS_CERT=as.pem", "AS_KEY=as-key.pem", "CA=clients-ca.pem", "GATE_JWK="+string(jwk))
	complaints := &gatetest.Log{}
	server.Stderr = complaints
	orders, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = orders.Close() // the server ends when its standard input is closed
		_ = server.Wait()
		if t.Failed() {
			t.Logf("the server says:\n%s", complaints.Bytes())
		}
	})
	f.orders, f.told = orders, bufio.NewScanner(out)
	if got := f.heard(); got != "listening" {
		t.Fatalf("the server says %q:\n%s", got, complaints.Bytes())
	}
	return f
}

// freePort returns a port below the ephemeral ports, so that the system does not assign it while
// the server is stopped.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20_000 + rand.N(10_000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// installNode copies a fixture of testdata into dir and installs its packages.
func installNode(t *testing.T, dir, fixture string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", fixture))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
}

func (f *foreign) write(name, content string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// heard returns the next line that the server prints.
func (f *foreign) heard() string {
	if !f.told.Scan() {
		return "nothing"
	}
	return f.told.Text()
}

// tell sends the server a command that changes its behaviour, and returns when the server has made the change.
func (f *foreign) tell(order string) {
	f.t.Helper()
	if got := f.ask(order); got != "done" {
		f.t.Fatalf("%s: the server says %q", order, got)
	}
}

func (f *foreign) ask(order string) string {
	f.t.Helper()
	if _, err := fmt.Fprintln(f.orders, order); err != nil {
		f.t.Fatal(err)
	}
	return f.heard()
}

// counts returns the number of requests to each path since the last call.
func (f *foreign) counts() map[string]int {
	f.t.Helper()
	var n map[string]int
	if text := f.ask("counts"); json.Unmarshal([]byte(text), &n) != nil {
		f.t.Fatalf("the server says %q", text)
	}
	return n
}

// clientOf returns an HTTP client with a certificate for the server.
func (f *foreign) clientOf(certificate string) *http.Client {
	content, err := os.ReadFile(filepath.Join(f.dir, "internal-ca.pem"))
	if err != nil {
		f.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{f.pairs[certificate].TLS()}}}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func (f *foreign) post(certificate, path string, form url.Values) []byte {
	f.t.Helper()
	response, err := f.clientOf(certificate).PostForm(f.issuer+path, form)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		f.t.Fatalf("%s: %s, %v\n%s", path, response.Status, err, body)
	}
	return body
}

// issue gets a token from the server and stores it under a name.
func (f *foreign) issue(name, certificate, clientID, resource string) {
	f.t.Helper()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	body := f.post(certificate, "/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "resource": {resource}, "scope": {"accounts:read"},
	})
	if err := json.Unmarshal(body, &token); err != nil || strings.Contains(token.AccessToken, ".") != (resource == jwtResource) {
		f.t.Fatalf("%v in %s", err, body)
	}
	f.tokens[name] = token.AccessToken
}
