package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// TestPartnerGuide runs the partner guide's examples against a running demo. Only the addresses are
// replaced. Languages that are not installed are skipped.
func TestPartnerGuide(t *testing.T) {
	notShort(t)
	page, err := os.ReadFile("../../docs/partner-guide.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "demo")
	addresses := startDemo(t, exec.Command(binary(t), "demo", "--dir", folder))
	example := func(heading, language, file string) string {
		block := regexp.MustCompile("(?s)\n### " + heading + "\n.*?```" + language + "\n(.*?)```").FindSubmatch(page)
		if block == nil {
			t.Fatalf("the guide has no example for %s", heading)
		}
		text := string(block[1])
		for written, actual := range addresses {
			text = strings.ReplaceAll(text, written, actual)
		}
		path := filepath.Join(t.TempDir(), file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	goProgram := filepath.Join(t.TempDir(), "client")
	for _, c := range []struct {
		name, language, file string
		command              func(file string) [][]string // run in turn, in the demo's folder
	}{
		{"curl", "sh", "client.sh", func(file string) [][]string {
			return [][]string{{"bash", "-eu", "-o", "pipefail", file}}
		}},
		{"curl", "sh", "client.zsh", func(file string) [][]string {
			return [][]string{{"zsh", "-eu", file}}
		}},
		{"Go", "go", "main.go", func(file string) [][]string {
			return [][]string{{"go", "build", "-o", goProgram, file}, {goProgram}}
		}},
		{"Java", "java", "Client.java", func(file string) [][]string {
			return [][]string{
				{"java", "-version"},
				{"openssl", "pkcs12", "-export", "-in", "northwind.pem", "-inkey", "northwind-key.pem", "-out", "northwind.p12", "-passout", "pass:changeit"},
				{"java", file},
			}
		}},
		{"Node.js", "js", "client.mjs", func(file string) [][]string { return [][]string{{"node", file}} }},
		{"Python", "python", "client.py", func(file string) [][]string {
			return [][]string{{"python3", "-c", "import requests"}, {"python3", file}}
		}},
	} {
		t.Run(c.file, func(t *testing.T) {
			commands := c.command(example(c.name, c.language, c.file))
			gatetest.NeedPrograms(t, commands[0][0])
			var output []byte
			for i, args := range commands {
				command := exec.CommandContext(t.Context(), args[0], args[1:]...)
				if args[0] != "go" { // the go command builds in this module
					command.Dir = folder
				}
				output, err = command.CombinedOutput()
				if err != nil && args[0] == "python3" && i == 0 {
					gatetest.SkipOutsideCI(t, "the Python package requests is not installed")
				}
				if err != nil {
					t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, output)
				}
			}
			if want := `"Tallygate-Partner": "northwind"`; !strings.Contains(string(output), want) {
				t.Errorf("got %s\nwant an answer of the API with %s", output, want)
			}
		})
	}
}
