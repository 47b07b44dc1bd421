package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tallygate/tallygate/internal/cli"
)

func written(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := write(dir, `v0.1.0-"rc\1`, "2026-11-30"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every command has a page that names each of its flags, and that roff formats without a warning.
func TestPages(t *testing.T) {
	dir := written(t)
	pages := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		file := filepath.Join(dir, "man1", pageName(c)+".1")
		content, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%s has no page: %v", c.CommandPath(), err)
			return
		}
		pages++
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(string(content), `\fB`+text("--"+f.Name)+`\fR`) {
				t.Errorf("the page of %s does not name --%s", c.CommandPath(), f.Name)
			}
		})
		if groff, err := exec.LookPath("groff"); err == nil {
			if out, err := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("groff says of %s: %v %s", file, err, out)
			}
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(cli.Commands())
	if files, err := filepath.Glob(filepath.Join(dir, "man1", "*")); err != nil || len(files) != pages || pages < 20 {
		t.Errorf("got %d files for %d commands, %v", len(files), pages, err)
	}
}

// Releases are reproducible, so two runs must give the same files. Each shell must be able to read its
// completions.
func TestCompletions(t *testing.T) {
	first, second := written(t), written(t)
	for shell, name := range map[string]string{"bash": "tallygate.bash", "zsh": "_tallygate", "fish": "tallygate.fish"} {
		file := filepath.Join(first, "completions", name)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(filepath.Join(second, "completions", name))
		if err != nil || !bytes.Equal(content, again) {
			t.Errorf("%s differs between two runs, %v", name, err)
		}
		if path, err := exec.LookPath(shell); err == nil {
			if out, err := exec.Command(path, "-n", file).CombinedOutput(); err != nil {
				t.Errorf("%s refuses %s: %v %s", shell, name, err, out)
			}
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"a-b":      `a\-b`,
		`C:\x`:     `C:\ex`,
		".TH evil": `\&.TH evil`,
		"'quoted'": `\&'quoted'`,
		"a.b 'c'":  "a.b 'c'",
	} {
		if got := text(in); got != want {
			t.Errorf("text(%q) = %q, want %q", in, got, want)
		}
	}
}
