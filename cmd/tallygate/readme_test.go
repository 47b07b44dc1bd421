package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/cli"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// TestQuickStart runs the marked blocks of the quick start, as they stand: the first one builds the
// binary and starts the demo. Only the ports are replaced by the demo's.
func TestQuickStart(t *testing.T) {
	notShort(t)
	stubBuild(t)
	eachShell(t, func(t *testing.T, shell string) {
		folder := t.TempDir()
		blocks := testedBlocks(t, "../../docs/quick-start.md", 4)
		start := exec.Command(shell, "-eu", "-c", blocks[0][1])
		start.Dir = folder
		addresses := startDemo(t, start)
		var script strings.Builder
		for _, block := range blocks[1:] {
			fmt.Fprintf(&script, "(\n%s)\n", block[1])
		}
		output := runShell(t, shell, folder, script.String(), addresses)
		for _, want := range []string{
			`"Tallygate-Partner": "northwind"`, `"reason":"bound_to_other"`, `"reason":"api_not_allowed"`,
			`tallygate_decisions_total{api="accounts",decision="deny",partner="borealis",reason="bound_to_other"}`,
			"granted", "refused: 401 bound_to_other", "would also be refused: 403 certificate_not_registered", "docs/reasons.md#bound_to_other", "refused: 401 revoked", "exit code 4", "revoked every token of application northwind-ledger",
		} {
			if !strings.Contains(output, want) {
				t.Errorf("the blocks print %s\nwant %s", output, want)
			}
		}
	})
}

// TestREADME runs the marked blocks of README, as they stand: they build the binary, write the
// first configuration, serve it and call it. Only the ports are replaced by free ports, in the
// configuration that README shows.
func TestREADME(t *testing.T) {
	notShort(t)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "account for "+r.Header.Get("Tallygate-Partner"))
	}))
	defer upstream.Close()
	stubBuild(t)
	eachShell(t, func(t *testing.T, shell string) {
		addresses := map[string]string{"127.0.0.1:8080": strings.TrimPrefix(upstream.URL, "http://")}
		for _, written := range []string{"127.0.0.1:8443", "127.0.0.1:8444", "127.0.0.1:9090"} {
			addresses[written] = "127.0.0.1:" + freePort(t)
		}
		var script strings.Builder
		for _, block := range testedBlocks(t, "../../README.md", 3) {
			if block[0] == "" {
				fmt.Fprintf(&script, "(\n%s)\n", block[1])
				if strings.Contains(block[1], "tallygate init first") {
					script.WriteString("cat >first/tallygate.yaml <<'EOF'\n" + firstConfiguration(t) + "EOF\n")
				}
				continue
			}
			fmt.Fprintf(&script, "%s &\nserver=$!\ntrap 'kill -INT $server; wait $server' EXIT\n", strings.TrimSpace(block[1]))
			script.WriteString("until curl --silent --fail http://127.0.0.1:9090/readyz; do kill -0 $server; sleep 0.1; done\n")
		}
		output := runShell(t, shell, t.TempDir(), script.String(), addresses)
		if want := "account for northwind"; !strings.Contains(output, want) {
			t.Errorf("the blocks print %s\nwant %s", output, want)
		}
	})
}

// stubBuild puts a go in front of PATH that links this test's binary in place of a build, which takes
// half a minute.
func stubBuild(t *testing.T) {
	t.Helper()
	bin := t.TempDir()
	build := fmt.Sprintf("#!/bin/sh\ntest \"$*\" = 'build -o tallygate ./cmd/tallygate' && ln -s '%s' tallygate\n", binary(t))
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(build), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

// eachShell runs test for bash and for zsh. A shell that is not installed is skipped, but not
// in CI.
func eachShell(t *testing.T, test func(t *testing.T, shell string)) {
	for _, shell := range []string{"bash", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			gatetest.NeedPrograms(t, shell, "curl")
			test(t, shell)
		})
	}
}

// testedBlocks returns the blocks of shell commands of a page that are marked as tested: what the
// mark says beyond that, and the commands. There must be want of them.
func testedBlocks(t *testing.T, file string, want int) (blocks [][2]string) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)<!-- tested(, stays running)? -->\n```sh\n(.*?)```").FindAllSubmatch(page, -1) {
		blocks = append(blocks, [2]string{string(m[1]), string(m[2])})
	}
	if len(blocks) != want {
		t.Fatalf("%s has %d tested blocks, want %d", file, len(blocks), want)
	}
	return blocks
}

// runShell runs script in folder, with the addresses replaced, and returns what it prints.
func runShell(t *testing.T, shell, folder, script string, addresses map[string]string) string {
	t.Helper()
	for written, actual := range addresses {
		script = strings.ReplaceAll(script, written, actual)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, shell, "-eu", "-o", "pipefail", "-c", script)
	command.Dir = folder
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}

// TestIssuerRules puts the rules of docs/issuer.md, as they stand, into a configuration and
// explains what each rule does.
func TestIssuerRules(t *testing.T) {
	page, err := os.ReadFile("../../docs/issuer.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- TestIssuerRules runs the next block. -->\n```yaml\n(.*?)```").FindSubmatch(page)
	script, err2 := os.ReadFile("testdata/governance.txtar")
	if block == nil || err2 != nil {
		t.Fatalf("docs/issuer.md has the rules: %t; governance.txtar: %v", block != nil, err2)
	}
	own := regexp.MustCompile("(?s)-- own.yaml --\n(.*?)  governance:\n.*?(admin:.*?)-- broken").FindSubmatch(script)
	dir := t.TempDir()
	newTestGate(dir).close()
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

// startDemo runs command, which starts the demo, until the test ends. It returns the address that the
// demo uses for each address of the quick start.
func startDemo(t *testing.T, command *exec.Cmd) map[string]string {
	t.Helper()
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGINT) // Ctrl-C
		_, _ = io.Copy(io.Discard, output)
		_ = command.Wait() // a shell may report the signal
	})
	names := map[string]string{"gate": "127.0.0.1:8443", "issuer": "127.0.0.1:8444", "admin": "127.0.0.1:9090"}
	address := regexp.MustCompile(`^   (gate|issuer|admin) +https?://(\S+)`)
	actual := map[string]string{}
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			actual[names[m[1]]] = m[2]
		}
		if strings.Contains(lines.Text(), "Ctrl-C") { // the last line
			return actual
		}
	}
	t.Fatal("the demo ended before its last line")
	return nil
}
