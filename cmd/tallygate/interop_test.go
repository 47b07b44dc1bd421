package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// An authority is a gate with an issuer. Its clients connect to a listener without client
// certificates and find the mutual TLS alias in the metadata.
type authority struct {
	dir        string // with ca.pem and each client's NAME.pem and NAME-key.pem
	identifier string
	alias      string // the URL of the mutual-TLS endpoints
	partners   *net.TCPAddr
}

const authorityConfig = `
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: as.pem, key: as-key.pem}}}
authorization_servers:
  - {name: ours, issuer: "IDENTIFIER", audiences: [https://api.example.com]}
apis:
  - {name: accounts, hosts: [api.example.com], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /accounts}]}
partners:
  list:
    - name: northwind
      trust: [ca.pem]
      applications:
        - {client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts], scopes: [accounts:read, accounts:write]}
issuer:
  issuer: IDENTIFIER
  address: 127.0.0.1:0
  mtls_alias: {url: "ALIAS", address: "127.0.0.1:0"}
  state: state
  audience: https://api.example.com
  resource_servers:
    - {client_id: accounts-api, trust: [ca.pem], certificate: {san_dns: accounts.internal}, resources: [https://api.example.com]}
admin: {address: "127.0.0.1:0"}
`

// newAuthority starts an authority. edits are pairs of old and new text of its configuration.
func newAuthority(t *testing.T, edits ...string) *authority {
	t.Helper()
	notShort(t)
	a := &authority{dir: t.TempDir()}
	ca := testpki.NewCA("authority")
	if err := os.WriteFile(filepath.Join(a.dir, "ca.pem"), ca.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ca.Leaf("as", testpki.IP("127.0.0.1"), testpki.DNS("api.example.com")).Write(a.dir, "as")
	ca.Leaf("ledger", testpki.DNS("ledger.northwind.example")).Write(a.dir, "northwind")
	ca.Leaf("accounts", testpki.DNS("accounts.internal")).Write(a.dir, "accounts")

	listeners := make(map[string]net.Listener)
	for _, name := range []string{gate.PartnersListener, gate.IssuerListener, gate.AliasListener, gate.AdminListener} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[name] = l
	}
	a.identifier = "https://" + listeners[gate.IssuerListener].Addr().String()
	a.partners = listeners[gate.PartnersListener].Addr().(*net.TCPAddr)
	a.alias = "https://" + listeners[gate.AliasListener].Addr().String()
	file := filepath.Join(a.dir, "tallygate.yaml")
	content := strings.NewReplacer(append(edits, "IDENTIFIER", a.identifier, "ALIAS", a.alias)...).Replace(authorityConfig)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(file, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- g.Run(ctx, func(name, _ string) (net.Listener, error) { return listeners[name], nil })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run says %v", err)
		}
	})
	return a
}

// A passage has the responses that a client received, from discovery to the revoked token.
type passage struct {
	Type, Scope   string
	Before, After map[string]any
	Refused       string
	Called        []string
}

// check compares the responses with RFC 7662, RFC 7009 and RFC 8705.
func (p passage) check(t *testing.T, thumbprint string) {
	t.Helper()
	if !strings.EqualFold(p.Type, "Bearer") || p.Scope != "accounts:read" {
		t.Errorf("a token of type %q for %q", p.Type, p.Scope)
	}
	cnf, _ := p.Before["cnf"].(map[string]any)
	if p.Before["active"] != true || p.Before["client_id"] != "northwind-ledger" || cnf["x5t#S256"] != thumbprint {
		t.Errorf("before the revocation: %v", p.Before)
	}
	if len(p.After) != 1 || p.After["active"] != false {
		t.Errorf("after the revocation: %v", p.After)
	}
	if p.Refused != "invalid_client" {
		t.Errorf("a stranger's certificate got %q", p.Refused)
	}
}

func (a *authority) thumbprint(t *testing.T) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, "northwind.pem"), filepath.Join(a.dir, "northwind-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return (&testpki.Pair{Cert: pair.Leaf}).Thumbprint()
}

// Node's openid-client, a certified client.
func TestOpenIDClient(t *testing.T) {
	gatetest.NeedPrograms(t, "node", "npm")
	a := newAuthority(t)
	installNode(t, a.dir, "openid-client")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	walk := exec.CommandContext(ctx, "node", "client.mjs")
	walk.Dir = a.dir
	walk.Env = append(os.Environ(), "ISSUER="+a.identifier, "CA=ca.pem")
	var complaints strings.Builder
	walk.Stderr = &complaints
	out, err := walk.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, complaints.String())
	}
	var p passage
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	p.check(t, a.thumbprint(t))
	for _, path := range []string{"/token", "/introspect", "/revoke"} {
		if !slices.Contains(p.Called, a.alias+path) || slices.Contains(p.Called, a.identifier+path) {
			t.Errorf("%s: not, or not only, called at the alias: %v", path, p.Called)
		}
	}
}

// curl, without OAuth support.
func TestCurl(t *testing.T) {
	gatetest.NeedPrograms(t, "curl")
	a := newAuthority(t)
	curl := func(certificate, url string, form ...string) map[string]any {
		t.Helper()
		args := []string{"--silent", "--show-error", "--max-time", "20", "--cacert", "ca.pem"}
		if certificate != "" {
			args = append(args, "--cert", certificate+".pem", "--key", certificate+"-key.pem")
		}
		for _, f := range form {
			args = append(args, "--data-urlencode", f)
		}
		command := exec.CommandContext(t.Context(), "curl", append(args, url)...)
		command.Dir = a.dir
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v\n%s", err, out)
		}
		var answer map[string]any
		if len(out) > 0 {
			if err := json.Unmarshal(out, &answer); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
		}
		return answer
	}
	metadata := curl("", a.identifier+"/.well-known/oauth-authorization-server")
	aliases := metadata["mtls_endpoint_aliases"].(map[string]any)
	at := func(endpoint string) string { return aliases[endpoint+"_endpoint"].(string) }
	ask := []string{"grant_type=client_credentials", "client_id=northwind-ledger", "scope=accounts:read"}
	token := curl("northwind", at("token"), ask...)
	raw := "token=" + token["access_token"].(string)
	p := passage{Type: token["token_type"].(string), Scope: token["scope"].(string)}
	p.Before = curl("accounts", at("introspection"), "client_id=accounts-api", raw)
	curl("northwind", at("revocation"), "client_id=northwind-ledger", raw)
	p.After = curl("accounts", at("introspection"), "client_id=accounts-api", raw)
	p.Refused = curl("accounts", at("token"), ask...)["error"].(string)
	p.check(t, a.thumbprint(t))
	// Without the alias no certificate is asked for, so no client authenticates.
	if got := curl("northwind", a.identifier+"/token", ask...)["error"]; got != "invalid_client" {
		t.Errorf("at the listener without client certificates: %v", got)
	}
}

// Go's oauth2/clientcredentials.
func TestGoOAuth2(t *testing.T) {
	a := newAuthority(t)
	speaker := func(name string) *http.Client {
		pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(a.dir, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(content)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: 20 * time.Second}
	}
	fetch := func(name string) (*oauth2.Token, error) {
		settings := clientcredentials.Config{
			ClientID: "northwind-ledger", TokenURL: a.alias + "/token", Scopes: []string{"accounts:read"}, AuthStyle: oauth2.AuthStyleInParams,
		}
		return settings.Token(context.WithValue(t.Context(), oauth2.HTTPClient, speaker(name)))
	}
	post := func(name, path string, form url.Values) (answer map[string]any) {
		t.Helper()
		response, err := speaker(name).PostForm(a.alias+path, form)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		return answer
	}
	token, err := fetch("northwind")
	if err != nil {
		t.Fatal(err)
	}
	raw := token.AccessToken
	p := passage{Type: token.Type(), Scope: token.Extra("scope").(string)}
	p.Before = post("accounts", "/introspect", url.Values{"client_id": {"accounts-api"}, "token": {raw}})
	post("northwind", "/revoke", url.Values{"client_id": {"northwind-ledger"}, "token": {raw}})
	p.After = post("accounts", "/introspect", url.Values{"client_id": {"accounts-api"}, "token": {raw}})
	if _, err := fetch("accounts"); err != nil && strings.Contains(err.Error(), "invalid_client") {
		p.Refused = "invalid_client"
	}
	p.check(t, a.thumbprint(t))
}
