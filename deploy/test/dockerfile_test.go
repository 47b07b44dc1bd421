// Package deploy_test reads the Dockerfile and the compose file by the parsers that Docker uses. No image
// is built.
package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const root = "../.."

// stages returns the stages of the Dockerfile, in which every instruction is known and has the arguments
// that it needs.
func stages(t *testing.T) []instructions.Stage {
	t.Helper()
	text, err := os.ReadFile(root + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("warning: %s", w.Short)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

// TestDockerfile checks that the sources of COPY exist: files in the repository, and files that commands of an
// earlier stage write. Variables are arguments of the stage.
func TestDockerfile(t *testing.T) {
	all := stages(t)
	if len(all) != 2 || all[0].Name != "build" || all[0].Platform != "$BUILDPLATFORM" || all[1].BaseName != "scratch" {
		t.Fatalf("the Dockerfile has the stages %+v", all)
	}
	pinned := regexp.MustCompile(`^golang:[0-9]+\.[0-9]+\.[0-9]+(@sha256:[0-9a-f]{64})?$`)
	if from := all[0].BaseName; !pinned.MatchString(from) {
		t.Errorf("the build is from %s, want %s", from, pinned)
	}
	made := map[string]string{} // the commands of earlier stages, by name of the stage
	for _, stage := range all {
		arguments := []string{}
		for _, command := range stage.Commands {
			switch c := command.(type) {
			case *instructions.ArgCommand:
				for _, a := range c.Args {
					arguments = append(arguments, a.Key)
				}
			case *instructions.RunCommand:
				line := strings.Join(c.CmdLine, " ")
				made[stage.Name] += line + "\n"
				for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(line, -1) {
					if !slices.Contains(arguments, m[1]) {
						t.Errorf("%s uses %s, which is no argument of its stage", line, m[1])
					}
				}
			case *instructions.CopyCommand:
				checkSources(t, c, made)
			}
		}
	}
}

func checkSources(t *testing.T, c *instructions.CopyCommand, made map[string]string) {
	t.Helper()
	for _, source := range c.SourcePaths {
		if c.From != "" {
			if written := made[c.From]; written == "" || strings.HasPrefix(source, "/out/") && !strings.Contains(written, source) {
				t.Errorf("no command of stage %q writes %s", c.From, source)
			}
			continue
		}
		if _, err := os.Stat(filepath.Join(root, source)); err != nil {
			t.Errorf("COPY: %v", err)
		}
	}
}

// make pin-images writes the digest that the registry reports, and replaces an earlier digest.
func TestPinImages(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	for _, name := range []string{"Dockerfile", "Makefile"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, digest := range []string{strings.Repeat("0a", 32), strings.Repeat("1b", 32)} {
		docker := "#!/bin/sh\ncase \"$*\" in\n'buildx imagetools inspect golang:'[0-9]*' --format {{.Manifest.Digest}}') echo sha256:" + digest + ";;\n*) echo \"$*\" >&2; exit 1;;\nesac\n"
		if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(docker), 0o700); err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), "make", "pin-images")
		command.Dir, command.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		text, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
		want := regexp.MustCompile(`(?m)^FROM --platform=\$BUILDPLATFORM golang:[0-9.]+@sha256:` + digest + ` AS build$`)
		if err != nil || !want.Match(text) {
			t.Errorf("%v; the Dockerfile has no line %s:\n%s", err, want, text)
		}
	}
}
