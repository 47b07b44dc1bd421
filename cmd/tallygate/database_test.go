package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpostgres"
)

// tallygate runs a command in the folder of s and returns its output. With an error it returns the
// text on stderr.
func (s *stateful) tallygate(stdin string, arguments ...string) (string, error) {
	command := exec.Command(binary(s.t), arguments...)
	command.Dir, command.Stdin = s.dir, strings.NewReader(stdin)
	var log strings.Builder
	command.Stderr = &log
	out, err := command.Output()
	if err != nil {
		return log.String(), err
	}
	return string(out), nil
}

// replica returns another gate with the certificates of s, whose issuer listens at a port of its own.
func (s *stateful) replica() *stateful {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.check(err)
	defer l.Close()
	copied := *s.testGate
	copied.process, copied.upstream, copied.issuerAddress = nil, newRecorder(), l.Addr().String()
	other := &stateful{&copied, s.t}
	s.t.Cleanup(other.close)
	return other
}

// account requests an account with token and returns the status and the reason.
func (s *stateful) account(token string) (int, string) {
	s.t.Helper()
	r := accountRequest(s.t.Context(), s.addresses["partners"], token)
	r.URL.Path, r.Host = "/accounts", "api.example.com"
	response, err := s.speaker("northwind").Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	s.check(err)
	_, reason, _ := strings.Cut(string(content), `"reason":"`)
	reason, _, _ = strings.Cut(reason, `"`)
	return response.StatusCode, reason
}

// notRefused requests an account with token. It returns "" if the gate answers with 401 and the upstream gets no
// request, and otherwise what happened.
func (s *stateful) notRefused(token string) string {
	s.t.Helper()
	s.upstream.forget()
	status, reason := s.account(token)
	if _, requests := s.upstream.take(); status != http.StatusUnauthorized || requests > 0 {
		return fmt.Sprintf("got %d %s and %d requests at the upstream, want 401 and none", status, reason, requests)
	}
	return ""
}

// ready returns the status of /readyz.
func (s *stateful) ready() int {
	s.t.Helper()
	response, err := http.Get("http://" + s.addresses["admin"] + "/readyz")
	s.check(err)
	_ = response.Body.Close()
	return response.StatusCode
}

// An issuer moves from a folder into a database and gets a second replica: tokens stay valid,
// revocations stay in force, and a revocation by either gate or by the command ends the token at both
// gates. Without the database the gates stay ready and refuse what they cannot decide.
func TestDatabase(t *testing.T) {
	server := testpostgres.Start(t)
	a := newStateful(t)
	program := binary(t)
	grant := url.Values{"grant_type": {"client_credentials"}, "client_id": {"northwind-ledger"}}
	fetch := func(s *stateful) string {
		t.Helper()
		status, answer := s.post(s.speaker("northwind"), "/token", grant)
		if status != http.StatusOK {
			t.Fatalf("no token: %d %v", status, answer)
		}
		return answer["access_token"].(string)
	}
	revoke := func(s *stateful, token string) int {
		status, _ := s.post(s.speaker("northwind"), "/revoke", url.Values{"client_id": {"northwind-ledger"}, "token": {token}})
		return status
	}
	opaque := []string{"audiences: [https://api.example.com]}", "audiences: [https://api.example.com], tokens: opaque}"}
	api := append(opaque, "http://127.0.0.1:1", a.upstream.url())
	a.write("gate.yaml", api...)
	a.check(a.start(program, filepath.Join(a.dir, "gate.yaml")))
	valid, revoked := fetch(a), fetch(a)
	if revoke(a, revoked) != http.StatusOK {
		t.Fatal("no revocation")
	}
	database := fmt.Sprintf("  database: {url: %q, encryption_keys: [encryption.key], insecure_sslmode: disable}\n", server.Database())
	moved := append(slices.Clone(api), "  state: state\n", database)
	a.write("database.yaml", moved...)
	gatetest.WriteFile(t, filepath.Join(a.dir, "encryption.key"), []byte("short"))
	if out, err := a.tallygate("", "check", "--config", "database.yaml"); err == nil || !strings.Contains(out, "issuer.database.encryption_keys[0]: ") || strings.Contains(out, "short") {
		t.Errorf("check with a wrong encryption key: %v %s, want a fault at its setting", err, out)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	gatetest.WriteFile(t, filepath.Join(a.dir, "encryption.key"), []byte(base64.StdEncoding.EncodeToString(key)))
	if out, err := a.tallygate("", "issuer", "migrate", "--from", "state", "--config", "database.yaml"); err == nil || !strings.Contains(out, "another process has it open") {
		t.Errorf("migrate beside the running issuer: %v %s, want a refusal", err, out)
	}
	a.kill()
	if out, err := a.tallygate("", "check", "--config", "database.yaml", "--online"); err != nil {
		t.Errorf("check --online: %v %s", err, out)
	}
	if out, err := a.tallygate("", "revoke", "--config", "database.yaml", "--partner", "northwind"); err == nil || !strings.Contains(out, "it has version 0") {
		t.Errorf("revoke in an empty database: %v %s, want a refusal", err, out)
	}
	for range 2 {
		if out, err := a.tallygate("", "issuer", "migrate", "--from", "state", "--config", "database.yaml"); err != nil || !strings.Contains(out, "copied 2 signing keys, 2 tokens, 1 revocations and 0 audit records into postgres://") {
			t.Fatalf("migrate: %v %s, want the numbers", err, out)
		}
	}

	b := a.replica()
	b.write("replica.yaml", append(opaque, "http://127.0.0.1:1", b.upstream.url(), "  state: state\n", database,
		`issuer: "https://`+b.issuerAddress, `issuer: "https://`+a.issuerAddress, "issuer: https://"+b.issuerAddress, "issuer: https://"+a.issuerAddress)...)
	a.check(a.start(program, filepath.Join(a.dir, "database.yaml")))
	a.check(b.start(program, filepath.Join(a.dir, "replica.yaml")))
	both := []*stateful{a, b}
	for _, s := range both {
		if status, reason := s.account(valid); status != http.StatusOK {
			t.Errorf("the token from before the move: got %d %s, want 200", status, reason)
		}
		if fault := s.notRefused(revoked); fault != "" {
			t.Errorf("the token revoked before the move: %s", fault)
		}
	}
	refused := func(what, token string) {
		t.Helper()
		began := time.Now()
		for _, s := range both {
			if !gatetest.Within(10*time.Second, func() bool { status, _ := s.account(token); return status == http.StatusUnauthorized }) {
				t.Errorf("%s: a gate accepts the token 10 s later", what)
			}
			if fault := s.notRefused(token); fault != "" {
				t.Errorf("%s: %s", what, fault)
			}
		}
		t.Logf("%s: refused by both gates after %s", what, time.Since(began).Round(time.Millisecond))
	}
	token := fetch(a)
	if status := revoke(b, token); status != http.StatusOK {
		t.Errorf("the token of one issuer revoked at the other: got %d, want 200", status)
	}
	refused("revoked at the other issuer", token)
	token = fetch(b)
	if out, err := a.tallygate(token, "revoke", "--config", "database.yaml", "--token"); err != nil || !strings.HasPrefix(out, "revoked a token") {
		t.Errorf("revoke: %v %s", err, out)
	}
	refused("revoked by the command", token)
	if out, err := a.tallygate("", "keys", "list", "--config", "replica.yaml"); err != nil || strings.Count(out, `"kid"`) != 2 {
		t.Errorf("keys list: %v %s, want two keys", err, out)
	}

	// Each acknowledged revocation survives kill -9 of the issuer while revocations are being stored.
	var acknowledged []string
	var mu sync.Mutex
	var group sync.WaitGroup
	tokens := make([]string, 40)
	for i := range tokens {
		tokens[i] = fetch(a)
	}
	for _, token := range tokens {
		group.Go(func() {
			if revoke(b, token) == http.StatusOK {
				mu.Lock()
				defer mu.Unlock()
				if acknowledged = append(acknowledged, token); len(acknowledged) == 10 {
					_ = b.process.Process.Kill()
				}
			}
		})
	}
	group.Wait()
	<-b.exited
	a.check(b.start(program, filepath.Join(a.dir, "replica.yaml")))
	for _, token := range acknowledged {
		for _, s := range both {
			if fault := s.notRefused(token); fault != "" {
				t.Errorf("an acknowledged revocation is lost: %s", fault)
			}
		}
	}
	t.Logf("%d revocations acknowledged before and after kill -9, none lost", len(acknowledged))

	server.Stop()
	if out, err := a.tallygate("", "check", "--config", "database.yaml", "--online"); err == nil || !strings.Contains(out, "issuer.database: postgres://") {
		t.Errorf("check --online without the database: %v %s, want an error that names the database", err, out)
	}
	for _, s := range both {
		if !gatetest.Within(20*time.Second, func() bool { status, _ := s.account(valid); return status == http.StatusServiceUnavailable }) {
			t.Error("a gate without the database does not answer 503")
		}
		s.upstream.forget()
		status, reason := s.account(valid)
		_, requests := s.upstream.take()
		if ready := s.ready(); status != http.StatusServiceUnavailable || ready != http.StatusOK || requests > 0 {
			t.Errorf("without the database: got %d %s, readiness %d and %d requests at the upstream; want 503, 200 and none", status, reason, ready, requests)
		}
		if status, answer := s.post(s.speaker("northwind"), "/token", grant); status != http.StatusServiceUnavailable || answer["error"] != "temporarily_unavailable" {
			t.Errorf("a token request without the database: got %d %v, want 503", status, answer)
		}
	}
	server.Restart()
	for _, s := range both {
		if !gatetest.Within(20*time.Second, func() bool { status, _ := s.account(valid); return status == http.StatusOK }) {
			t.Error("with the database again, a gate does not accept a valid token")
		}
		if bytes.Contains(s.log.Bytes(), []byte(valid)) {
			t.Error("the log has a token")
		}
		s.check(s.stop())
	}
}
