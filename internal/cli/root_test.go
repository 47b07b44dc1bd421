package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/buildinfo"
)

// command runs tallygate with args.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, words bytes.Buffer
	code = Run(t.Context(), args, &out, &words)
	return code, out.String(), words.String()
}

// net/http's messages to the standard logger may quote an upstream.
func TestStandardLoggerIsSilent(t *testing.T) {
	if command(t, "version"); log.Writer() != io.Discard {
		t.Error("it writes")
	}
}

func TestUsageErrors(t *testing.T) {
	for _, tt := range []struct {
		args string
		help string // the command that the hint names
	}{
		{"nosuch", "tallygate"},
		{"tokn --cert x", "tallygate"},
		{"--nosuch", "tallygate"},
		{"-o json", "tallygate"},
		{"version extra", "tallygate version"},
		{"version -o xml", "tallygate version"},
		{"version --output", "tallygate version"},
		{"thumbprint", "tallygate thumbprint"},
		{"token", "tallygate token"},
		{"token extra", "tallygate token"},
		{"configure-server", "tallygate configure-server"},
		{"configure-server https://as.example.com extra", "tallygate configure-server"},
		{"serve extra", "tallygate serve"},
		{"check --nosuch", "tallygate check"},
		{"completion", "tallygate completion"},
		{"completion nosuch", "tallygate completion"},
		{"completion bash extra", "tallygate completion bash"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := command(t, strings.Fields(tt.args)...)
			if code != exitUsage || stdout != "" {
				t.Errorf("got exit code %d and output %q, want %d and none", code, stdout, exitUsage)
			}
			if !strings.HasPrefix(stderr, "tallygate: ") || !strings.HasSuffix(stderr, "\nsee "+tt.help+" --help\n") {
				t.Errorf("got words %q, want a complaint and a hint at %s --help", stderr, tt.help)
			}
		})
	}
}

func TestUnknownCommandSuggests(t *testing.T) {
	_, _, stderr := command(t, "tokn")
	if !strings.Contains(stderr, "\ttoken") {
		t.Errorf("got words %q, want token suggested", stderr)
	}
}

func TestInvalidConfiguration(t *testing.T) {
	file := write(t, "bad.yaml", []byte("lisener: {}\nadmn: {}\n"))
	// With --config and without a command, tallygate serves.
	for _, args := range [][]string{{"--config", file}, {"serve", "--config", file}, {"check", "--config", file}} {
		code, stdout, stderr := command(t, args...)
		if code != exitConfiguration || stdout != "" {
			t.Errorf("%q: got exit code %d and output %q, want %d and none", args, code, stdout, exitConfiguration)
		}
		for _, place := range []string{file + ":1:1: ", file + ":2:1: "} {
			if !strings.Contains("\n"+stderr, "\n"+place) {
				t.Errorf("%q: got words %q, want a line that begins with %s", args, stderr, place)
			}
		}
	}
}

// Without arguments tallygate describes itself and the first command to run, for any os.Args and folder.
func TestNoArguments(t *testing.T) {
	t.Chdir(filepath.Dir(write(t, defaultConfig, []byte("lisener: {}\n"))))
	defer func(was []string) { os.Args = was }(os.Args)
	os.Args = []string{"tallygate", "nosuch"}
	code, stdout, stderr := command(t)
	if code != ExitOK || stderr != "" {
		t.Errorf("got exit code %d and words %q, want 0 and none", code, stderr)
	}
	commands := regexp.MustCompile(`(?m)^  tallygate (\w+)`).FindAllStringSubmatch(stdout, -1)
	if len(commands) != 3 {
		t.Errorf("got %d commands to begin with, want 3: %s", len(commands), stdout)
	}
	for _, c := range commands {
		if found, _, err := rootCommand().Find(c[1:]); err != nil || found.Name() != c[1] {
			t.Errorf("the introduction names tallygate %s, which is no command", c[1])
		}
	}
}

func TestExitCode(t *testing.T) {
	failure := errors.New("no")
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"none", nil, 0},
		{"none, with a code", withCode(ExitRefused, nil), 0},
		{"plain", failure, 1},
		{"chosen", withCode(ExitRefused, failure), 4},
		{"faults of the configuration", fmt.Errorf("loading: %w", config.Faults{{Message: "no"}}), 3},
		{"faults, with a code", withCode(ExitFailure, config.Faults{{Message: "no"}}), 1},
		{"chosen twice", withCode(exitConfiguration, withCode(ExitRefused, failure)), 3},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestHelp(t *testing.T) {
	code, stdout, stderr := command(t, "--help")
	if code != ExitOK || stderr != "" {
		t.Errorf("got exit code %d and words %q, want 0 and none", code, stderr)
	}
	for _, name := range []string{"serve", "check", "demo", "token", "thumbprint", "version", "completion"} {
		if !strings.Contains(stdout, "\n  "+name+" ") {
			t.Errorf("the help text does not list %s", name)
		}
	}
}

// Errors of a command without RunE would count as wrong usage.
func TestCommandsAreComplete(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.RunE == nil || c.Run != nil || c.Short == "" || c.Example == "" {
			t.Errorf("%s lacks RunE, a short description or an example", c.CommandPath())
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(rootCommand())
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		code, stdout, stderr := command(t, "completion", shell)
		if code != ExitOK || !strings.Contains(stdout, "tallygate") || stderr != "" {
			t.Errorf("%s: got exit code %d, %d bytes of output and words %q", shell, code, len(stdout), stderr)
		}
	}
	code, stdout, _ := command(t, "__complete", "version", "-o", "")
	if code != ExitOK || !strings.HasPrefix(stdout, "text\njson\n") {
		t.Errorf("-o: got exit code %d and %q, want text and json", code, stdout)
	}
}

func TestVersion(t *testing.T) {
	defer func(was string) { buildinfo.Version = was }(buildinfo.Version)
	buildinfo.Version = "1.2.3"
	code, stdout, stderr := command(t, "version")
	warned := strings.HasPrefix(stderr, "warning: built with go") // TestOutdatedWarning
	if code != ExitOK || !strings.HasPrefix(stdout, "version   1.2.3\n") || stderr != "" && !warned {
		t.Errorf("got exit code %d, output %q and words %q", code, stdout, stderr)
	}

	if _, flag, _ := command(t, "--version"); flag != stdout {
		t.Errorf("--version prints %q, want what version prints, %q", flag, stdout)
	}

	code, stdout, _ = command(t, "version", "-o", "json")
	var got buildinfo.Info
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != ExitOK {
		t.Fatalf("got exit code %d, output %q: %v", code, stdout, err)
	}
	if diff := cmp.Diff(buildinfo.Read(), got); diff != "" || got.Version != "1.2.3" || !strings.HasPrefix(got.Go, "go1.") {
		t.Errorf("got %+v, which differs:\n%s", got, diff)
	}
}

// Output that cannot be written is a failure; otherwise a script would continue with a part of the output.
func TestOutputThatFails(t *testing.T) {
	cert := write(t, "cert.pem", []byte(rfc8705Certificate))
	for _, args := range [][]string{{"version"}, {"version", "-o", "json"}, {"thumbprint", cert}, {"thumbprint", "-o", "json", cert}} {
		if code := Run(t.Context(), args, fullDisk{}, new(bytes.Buffer)); code != ExitFailure {
			t.Errorf("%q: got exit code %d, want %d", args, code, ExitFailure)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }
