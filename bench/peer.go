package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// A peer is a proxy to measure.
type peer struct {
	name    string // on the command line
	title   string // in tables, before the version
	setup   string // the text after the version in tables, for programs with several configurations
	does    string // the checks, in tables
	command string // in PATH; or a path within the wheel, when the program comes from one
	// packages are Debian's packages of the program.
	packages []string
	// wheel is the package on PyPI that contains the program, with its version: NAME==VERSION.
	wheel string
	// files are the files that the packages must install beside the command.
	files []string
	// version holds the arguments that print the version.
	version []string
	// checks are the faulty requests that the peer refuses. Every peer refuses connections without
	// a certificate of a partner.
	checks []fault
	// late: the peer accepts connections before it has loaded its routes.
	late bool
	// configure writes the configuration into dir and returns the program's arguments.
	configure func(env *environment, v variant, dir, address string) ([]string, error)
}

var everyPeer = []peer{tallygate, nginx, nginxWheel, haproxy, envoy, envoyJWT, envoyJWTUncached, traefik, caddy, apache}

func peerNames() []string {
	var names []string
	for _, p := range everyPeer {
		names = append(names, p.name)
	}
	return names
}

// peerNamed returns the peer with this name. It panics when no peer has it.
func peerNamed(name string) peer {
	return everyPeer[slices.IndexFunc(everyPeer, func(p peer) bool { return p.name == name })]
}

// program returns what to run: a command in PATH, the path of a file from a wheel, or "" for
// tallygate, which [build] makes.
func (p peer) program() string {
	if p.wheel == "" {
		return p.command
	}
	return filepath.Join(wheelDir(p.wheel), p.command)
}

// source names the packages of p for messages.
func (p peer) source() string {
	if p.wheel != "" {
		return "PyPI: " + p.wheel
	}
	return fmt.Sprintf("Debian: %s", p.packages)
}

// missing returns the command or file of p that is not installed, and "" when p can run.
func (p peer) missing() string {
	if p.command != "" {
		if _, err := exec.LookPath(p.program()); err != nil {
			return p.command
		}
	}
	for _, file := range p.files {
		if _, err := os.Stat(file); err != nil {
			return file
		}
	}
	return ""
}

// numbered matches a version within the output of a command.
var numbered = regexp.MustCompile(`\d+\.\d+[\w.+~-]*`)

// versionOf returns the version that the program prints, "unknown" when it prints none, and ""
// for tallygate, whose version [build] returns.
func (p peer) versionOf(ctx context.Context) string {
	if p.command == "" {
		return ""
	}
	output, _ := exec.CommandContext(ctx, p.program(), p.version...).CombinedOutput()
	output = bytes.ReplaceAll(output, []byte(p.program()), nil) // the path of a wheel has a version too
	if v := numbered.Find(output); v != nil {
		return string(v)
	}
	return "unknown"
}

// release matches the upstream's version at the beginning of a distribution's version.
var release = regexp.MustCompile(`^\d+(\.\d+)+`)

// versioned returns the title of p with its version, if any. tallygate has none, because its version is a
// commit.
func (p peer) versioned(version string) string {
	if v := release.FindString(version); v != "" && p.name != tallygate.name {
		return p.title + " " + v
	}
	return p.title
}

// titled returns the title of p with its version and its setup.
func (p peer) titled(version string) string {
	return strings.TrimSpace(p.versioned(version) + " " + p.setup)
}

// render writes a configuration from its template into dir and returns the path of the file.
func render(dir, name, text string, values any) (string, error) {
	file := filepath.Join(dir, name)
	out, err := os.Create(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = out.Close() }()
	t, err := template.New(name).Parse(text)
	if err != nil {
		return "", err
	}
	if err := t.Execute(out, values); err != nil {
		return "", err
	}
	return file, out.Close()
}
