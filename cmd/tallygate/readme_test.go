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

// startDemo runs the demo until the test ends, and returns the address it got for
// each that the README names.
func startDemo(t *testing.T, dir string) map[string]string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"demo", "--dir", dir}, writer, io.Discard)
		_ = writer.Close()
	}()
	t.Cleanup(func() {
		go func() { _, _ = io.Copy(io.Discard, reader) }()
		stop()
		if code := <-ended; code != exitOK {
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
