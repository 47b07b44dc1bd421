package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

const killedConfig = `
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: gate.pem, key: gate-key.pem}}}
authorization_servers:
  - {name: ours, issuer: "https://ADDRESS", audiences: [https://api.example.com]}
apis:
  - {name: accounts, hosts: [api.example.com], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /accounts}]}
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications:
        - {client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts], token_format: opaque}
issuer:
  issuer: https://ADDRESS
  address: ADDRESS
  state: state
  audience: https://api.example.com
  resource_servers:
    - {client_id: accounts-api, trust: [northwind-ca.pem], certificate: {san_dns: accounts.internal}, resources: [https://api.example.com]}
  limits:
    per_client: {requests_per_second: 100000, burst: 100000}
    per_address: {requests_per_second: 100000, burst: 100000}
admin: {address: "127.0.0.1:0"}
`

// A stateful is an issuer process that a test may kill and start again.
type stateful struct {
	*testGate
	t *testing.T
}

func newStateful(t *testing.T) *stateful {
	t.Helper()
	notShort(t)
	dir := t.TempDir()
	s := &stateful{testGate: newTestGate(dir), t: t}
	t.Cleanup(s.close)
	s.pairs["accounts"] = s.pairs["northwind-ca"].Leaf("accounts", testpki.DNS("accounts.internal"))
	s.write("gate.yaml")
	return s
}

// write writes a configuration with the replacements of pairs of old and new text.
func (s *stateful) write(file string, pairs ...string) {
	s.t.Helper()
	config := strings.ReplaceAll(killedConfig, "ADDRESS", s.issuerAddress)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(config, pairs[i]) {
			s.t.Fatalf("the configuration has no %q", pairs[i])
		}
		config = strings.Replace(config, pairs[i], pairs[i+1], 1)
	}
	s.check(os.WriteFile(filepath.Join(s.dir, file), []byte(config), 0o600))
}

func (s *stateful) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stateful) kill() {
	_ = s.process.Process.Kill()
	<-s.exited
	s.process = nil
}

// speaker returns a client with the named certificate.
func (s *stateful) speaker(name string) *http.Client {
	roots := testpki.Pool(s.pairs["gate"])
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{s.pairs[name].TLS()}},
		MaxIdleConnsPerHost: 16,
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// post returns the status and the response; 0 without a response.
func (s *stateful) post(client *http.Client, path string, form url.Values) (int, map[string]any) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.issuerAddress+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil
	}
	var answer map[string]any
	_ = json.Unmarshal(content, &answer)
	return response.StatusCode, answer
}

func (s *stateful) active(client *http.Client, token string) bool {
	s.t.Helper()
	status, answer := s.post(client, "/introspect", url.Values{"client_id": {"accounts-api"}, "token": {token}})
	if status != http.StatusOK {
		s.t.Fatalf("introspection answered with %d", status)
	}
	return answer["active"] == true
}

// Each acknowledged revocation and token survives kill -9.
func TestKilledIssuer(t *testing.T) {
	s := newStateful(t)
	program := binary(t)
	grant := url.Values{"grant_type": {"client_credentials"}, "client_id": {"northwind-ledger"}}
	var acknowledged, untouched []string
	rounds := 0
	for ; len(acknowledged) < 200; rounds++ {
		if err := s.start(program, filepath.Join(s.dir, "gate.yaml")); err != nil {
			t.Fatal(err)
		}
		ledger := s.speaker("northwind")
		tokens := make([]string, 60)
		for i := range tokens {
			status, answer := s.post(ledger, "/token", grant)
			if status != http.StatusOK {
				t.Fatalf("no token: %d %v", status, answer)
			}
			tokens[i] = answer["access_token"].(string)
		}
		untouched = append(untouched, tokens[50:]...)
		var group sync.WaitGroup
		var mu sync.Mutex
		queue := make(chan string)
		for range 8 {
			group.Go(func() {
				for token := range queue {
					status, _ := s.post(ledger, "/revoke", url.Values{"client_id": {"northwind-ledger"}, "token": {token}})
					if status == http.StatusOK {
						mu.Lock()
						acknowledged = append(acknowledged, token)
						mu.Unlock()
					}
				}
			})
		}
		for i, token := range tokens[:50] {
			if i == 40+rounds%8 { // while the revocations are running
				s.kill()
			}
			queue <- token
		}
		close(queue)
		group.Wait()
	}
	if err := s.start(program, filepath.Join(s.dir, "gate.yaml")); err != nil {
		t.Fatal(err)
	}
	server := s.speaker("accounts")
	for _, token := range acknowledged {
		if s.active(server, token) {
			t.Fatal("an acknowledged revocation is lost")
		}
	}
	for _, token := range untouched {
		if !s.active(server, token) {
			t.Fatal("an acknowledged token is lost")
		}
	}
	t.Logf("killed %d times: %d revocations and %d tokens acknowledged, none lost", rounds, len(acknowledged), len(untouched))
}

// With a full disk, requests that need to write get 503 with Retry-After, nothing is half written,
// acknowledged writes stay, and other requests are served.
func TestFullDisk(t *testing.T) {
	gatetest.NeedPrograms(t, "bash")
	s := newStateful(t)
	// A limit on the size of files, 256 × 1 KiB, stands in for a disk.
	limited := filepath.Join(t.TempDir(), "limited")
	script := fmt.Sprintf("#!/usr/bin/env bash\nulimit -f 256\nexec %s \"$@\"\n", binary(t))
	if err := os.WriteFile(limited, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.start(limited, filepath.Join(s.dir, "gate.yaml")); err != nil {
		t.Fatal(err)
	}
	ledger, server := s.speaker("northwind"), s.speaker("accounts")
	grant := url.Values{"grant_type": {"client_credentials"}, "client_id": {"northwind-ledger"}}
	var tokens []string
	status := http.StatusOK
	var answer map[string]any
	for deadline := time.Now().Add(patience); status == http.StatusOK && time.Now().Before(deadline); {
		if status, answer = s.post(ledger, "/token", grant); status == http.StatusOK {
			tokens = append(tokens, answer["access_token"].(string))
		}
	}
	if status != http.StatusServiceUnavailable || answer["error"] != "temporarily_unavailable" || answer["access_token"] != nil || len(tokens) == 0 {
		t.Fatalf("after %d tokens: %d %v", len(tokens), status, answer)
	}
	// Small changes may still find room; of each the answer is true.
	var refused int
	for _, token := range tokens {
		status, _ := s.post(ledger, "/revoke", url.Values{"client_id": {"northwind-ledger"}, "token": {token}})
		if active := s.active(server, token); status == http.StatusOK == active || status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("a revocation is answered with %d, and the token is active: %t", status, active)
		}
		if status == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused == 0 {
		t.Error("every revocation was stored")
	}
	t.Logf("full after %d tokens; %d revocations refused", len(tokens), refused)
}
