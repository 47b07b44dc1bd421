package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/cli"
)

// TestREADME runs the README's block of curl lines, as they stand, against a demo
// that runs. Only the ports are exchanged for those that the demo got.
func TestREADME(t *testing.T) {
	for _, tool := range []string{"curl", "bash"} {
		if _, err := exec.LookPath(tool); err != nil && os.Getenv("CI") == "" {
			t.Skipf("%s is not installed; in CI it must be", tool)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- TestREADME runs the next block. -->\n```sh\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("the README has no such block")
	}
	folder := t.TempDir()
	script := string(block[1])
	for told, actual := range startDemo(t, filepath.Join(folder, "demo")) {
		script = strings.ReplaceAll(script, told, actual)
	}
	shell := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", script)
	shell.Dir = folder
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, want := range []string{
		`"Tallygate-Partner": "northwind"`, `"reason":"bound_to_other"`, `"reason":"api_not_allowed"`,
		`tallygate_decisions_total{decision="deny",partner="northwind",reason="bound_to_other"}`,
	} {
		if !strings.Contains(string(output), want) {
			t.Errorf("the output lacks %s:\n%s", want, output)
		}
	}
}

// TestREADMERules puts the README's rules, as they stand, into a configuration, and asks
// what each of them does.
func TestREADMERules(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- TestREADMERules runs the next block. -->\n```yaml\n(.*?)```").FindSubmatch(readme)
	script, err2 := os.ReadFile("testdata/governance.txtar")
	if block == nil || err2 != nil {
		t.Fatal("the README has no such block", err2)
	}
	own := regexp.MustCompile("(?s)-- own.yaml --\n(.*?)  governance:\n.*?(admin:.*?)-- broken").FindSubmatch(script)
	dir := t.TempDir()
	newWorld(dir).close()
	content := os.Expand(string(own[1])+string(block[1])+string(own[2]), func(name string) string {
		return map[string]string{"ISSUER_ADDRESS": "127.0.0.1:9443", "UPSTREAM": "http://127.0.0.1:1"}[name]
	})
	file := filepath.Join(dir, "tallygate.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		client, cert, address string
		code                  int
		want                  string
	}{
		{"northwind-ledger", "northwind", "10.1.2.3", cli.ExitOK, "known-networks +does not apply"},
		{"northwind-ledger", "northwind", "203.0.113.7", cli.ExitRefused, "refused: workspace rule known-networks: from an unknown network"},
		{"northwind-ledger", "northwind", "10.1.2.3", cli.ExitOK, "short-lived +limited the lifetime to 2m0s"},
		{"borealis-sync", "borealis", "10.1.2.3", cli.ExitRefused, "refused: application rule not-before-launch: the contract has not begun"},
		{"northwind-ledger", "northwind", "10.1.2.3", cli.ExitOK, "writes-from-inside +does not apply"},
		{"northwind-ledger", "northwind", "127.0.0.1", cli.ExitOK, "writes-from-inside +dropped the scope accounts:write"},
		{"northwind-ledger", "northwind", "10.1.2.3", cli.ExitOK, "tier +added the claim tier: gold"},
	} {
		var stdout, stderr strings.Builder
		code := cli.Run(t.Context(), []string{"explain", "token", "--config", file, "--client-id", c.client,
			"--cert", filepath.Join(dir, c.cert+".pem"), "--address", c.address}, &stdout, &stderr)
		if code != c.code || !regexp.MustCompile(c.want).MatchString(stdout.String()) {
			t.Errorf("%s from %s: code %d, want %d and %s in\n%s%s", c.client, c.address, code, c.code, c.want, stdout.String(), stderr.String())
		}
	}
}

// startDemo runs the demo until the test ends, and returns the address it got for
// each that the README names.
func startDemo(t *testing.T, dir string) map[string]string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, []string{"demo", "--dir", dir}, writer, io.Discard)
		_ = writer.Close()
	}()
	t.Cleanup(func() {
		go func() { _, _ = io.Copy(io.Discard, reader) }()
		stop()
		if code := <-ended; code != cli.ExitOK {
			t.Errorf("the demo ended with %d", code)
		}
	})
	told := map[string]string{"gate": "127.0.0.1:8443", "issuer": "127.0.0.1:8444", "admin": "127.0.0.1:9090"}
	place := regexp.MustCompile(`^   (gate|issuer|admin) +https?://(\S+)`)
	actual := map[string]string{}
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		if m := place.FindStringSubmatch(lines.Text()); m != nil {
			actual[told[m[1]]] = m[2]
		}
		if strings.Contains(lines.Text(), "Ctrl-C") { // the last line
			return actual
		}
	}
	t.Fatal("the demo ended before its last line")
	return nil
}
