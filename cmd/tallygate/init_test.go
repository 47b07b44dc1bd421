package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInit runs the commands that init prints, as they stand. Only the ports are replaced by free ports.
// The folder has a name that a shell must not split.
func TestInit(t *testing.T) {
	notShort(t)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "account for "+r.Header.Get("Tallygate-Partner")+"\n")
	}))
	defer upstream.Close()
	eachShell(t, func(t *testing.T, shell string) {
		bin, folder := t.TempDir(), t.TempDir()
		if err := os.Symlink(binary(t), filepath.Join(bin, "tallygate")); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
		initiate := exec.Command("tallygate", "init", "it's first")
		initiate.Dir = folder
		printed, err := initiate.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		file := filepath.Join(folder, "it's first", "tallygate.yaml")
		written, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		addresses := map[string]string{"127.0.0.1:8080": strings.TrimPrefix(upstream.URL, "http://")}
		asInREADME := string(written)
		for usual, pattern := range map[string]string{
			"127.0.0.1:8443": `https://(\S+)/accounts/7`, "127.0.0.1:8444": `--metadata https://(\S+)`, "127.0.0.1:9090": `http://(\S+)/metrics`,
		} {
			found := regexp.MustCompile(pattern).FindSubmatch(printed)
			if found == nil {
				t.Fatalf("init prints no %s:\n%s", pattern, printed)
			}
			addresses[string(found[1])] = "127.0.0.1:" + freePort(t)
			asInREADME = strings.ReplaceAll(asInREADME, string(found[1]), usual)
		}
		if want := firstConfiguration(t); asInREADME != want {
			t.Errorf("init writes\n%s\nwant what README shows\n%s", asInREADME, want)
		}
		for from, to := range addresses {
			written = []byte(strings.ReplaceAll(string(written), from, to))
		}
		if err := os.WriteFile(file, written, 0o600); err != nil {
			t.Fatal(err)
		}
		output := runShell(t, shell, folder, initScript(t, string(printed)), addresses)
		for _, want := range []string{"is valid: 1 APIs, 2 partners", "account for northwind", `"reason":"bound_to_other"`, "refused: 401 bound_to_other", "exit code 4"} {
			if !strings.Contains(output, want) {
				t.Errorf("the commands print %s\nwant %s", output, want)
			}
		}
	})
}

// initScript returns the commands in what init prints, as a script.
func initScript(t *testing.T, printed string) string {
	t.Helper()
	var script strings.Builder
	blocks := 0
	for block := range strings.SplitSeq(printed, "\n\n") {
		if !regexp.MustCompile(`^(tallygate|TOKEN=|curl) ?`).MatchString(block) {
			continue
		}
		blocks++
		check, serve, serves := strings.Cut(block, "\ntallygate serve")
		if !serves {
			fmt.Fprintf(&script, "%s || echo exit code $?\n", block)
			continue
		}
		fmt.Fprintf(&script, "%s\ntallygate serve%s &\nserver=$!\ntrap 'kill -INT $server; wait $server' EXIT\n", check, serve)
		admin := regexp.MustCompile(`http://\S+/metrics`).FindString(printed)
		fmt.Fprintf(&script, "until curl --silent --fail %s; do kill -0 $server; sleep 0.1; done >/dev/null\n", strings.Replace(admin, "/metrics", "/readyz", 1))
	}
	if blocks != 3 {
		t.Fatalf("init prints %d blocks of commands, want 3:\n%s", blocks, printed)
	}
	return script.String()
}

// firstConfiguration returns the configuration that README shows as what init writes.
func firstConfiguration(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(# yaml-language-server: .*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("README has no first configuration")
	}
	return string(block[1])
}
