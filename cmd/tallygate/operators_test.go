package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// An output collects what a command writes.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// A revocation by an operator over mutual TLS that was answered survives kill -9 of the issuer at once, with its audit
// record, and a watch that lost its connection continues with the next revocation.
func TestOperatorsRevocationSurvivesKill(t *testing.T) {
	s := newStateful(t)
	operators := "  operators: [{name: anna, trust: [operations-ca.pem], certificate: {san_dns: anna.operations.example}, permissions: [revoke, read]}]\n"
	s.write("gate.yaml", "  limits:\n    per_client", operators+"  limits:\n    per_client")
	file := filepath.Join(s.dir, "gate.yaml")
	s.check(s.start(binary(t), file))
	remote := []string{"--issuer", "https://" + s.issuerAddress, "--cert", "anna.pem", "--key", "anna-key.pem", "--ca", "gate.pem"}

	watch := exec.Command(binary(t), append([]string{"revocations", "watch"}, remote...)...)
	var printed, messages output
	watch.Dir, watch.Stdout, watch.Stderr = s.dir, &printed, &messages
	s.check(watch.Start())
	t.Cleanup(func() { _ = watch.Process.Kill() })
	shows := func(where *output, what string) {
		t.Helper()
		if !gatetest.Within(patience, func() bool { return strings.Contains(where.String(), what) }) {
			t.Fatalf("the watch printed %q and %q, want %q", printed.String(), messages.String(), what)
		}
	}
	shows(&messages, "watching")
	revoke := func(n int) (thumbprint string) {
		t.Helper()
		name := fmt.Sprintf("stolen-%d", n)
		pair := s.pairs["northwind-ca"].Leaf(name, testpki.DNS("ledger.northwind.example"))
		pair.Write(s.dir, name)
		out, err := s.tallygate("", append([]string{"revoke", "--thumbprint-of", name + ".pem", "--reason", "round " + fmt.Sprint(n)}, remote...)...)
		if err != nil || !strings.Contains(out, "revoked the certificate "+pair.Thumbprint()) {
			t.Fatalf("revoke: %v %s", err, out)
		}
		return pair.Thumbprint()
	}
	var revoked []string
	for n := range 3 {
		revoked = append(revoked, revoke(n))
		s.kill()
		if n == 0 {
			shows(&messages, "not connected, trying again: ")
		}
		s.check(s.start(binary(t), file))
		if n == 0 {
			shows(&messages, "connected again")
		}
		list, err := s.tallygate("", append([]string{"revocations", "list", "-o", "json"}, remote...)...)
		for i, thumbprint := range revoked {
			if err != nil || !strings.Contains(list, thumbprint) || !strings.Contains(list, fmt.Sprintf(`"reason": "round %d"`, i)) || strings.Count(list, `"actor": "operator:anna"`) != n+1 {
				t.Errorf("after kill -9 the list is %s, %v; want the record of %s by operator:anna", list, err, thumbprint)
			}
		}
	}
	for n, thumbprint := range revoked {
		shows(&printed, fmt.Sprintf("Z certificate %s by operator:anna: round %d\n", thumbprint, n))
	}
	if got := strings.Count(printed.String(), "\n"); got != len(revoked) {
		t.Errorf("the watch printed %d lines, want %d: %s", got, len(revoked), printed.String())
	}
	s.check(watch.Process.Signal(os.Interrupt))
	if err := watch.Wait(); err != nil {
		t.Errorf("the interrupted watch ended with %v and %q, want exit code 0", err, messages.String())
	}
	s.check(s.stop())
}
