package main

import (
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

// A peer is a server that is measured.
type peer struct {
	name     string // on the command line
	title    string // in tables
	does     string // what it checks, in tables
	command  string // looked up in PATH; tallygate is built
	packages []string
	// files that packages bring and that must be there beside the command.
	files []string
	// version is how the command is asked for its version.
	version []string
	// checks are the faults that it refuses. Every peer refuses connections without a
	// certificate of a partner.
	checks []fault
	// configure writes its configuration into dir and returns the command that serves it.
	configure func(w *world, v variant, dir, address string) ([]string, error)
}

var everyPeer = []peer{tallygate, nginx, haproxy, apache, caddy}

func peerNames() []string {
	var names []string
	for _, p := range everyPeer {
		names = append(names, p.name)
	}
	return names
}

// peerNamed returns a peer by its name, which must be one.
func peerNamed(name string) peer {
	return everyPeer[slices.IndexFunc(everyPeer, func(p peer) bool { return p.name == name })]
}

// missing returns what of p is not there, "" for nothing.
func (p peer) missing() string {
	if p.command != "" {
		if _, err := exec.LookPath(p.command); err != nil {
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

// install installs the packages of the peers that are missing, where it may. What is still
// missing afterwards is told by [peer.missing].
func install(ctx context.Context, peers []peer, s settings) {
	var packages []string
	for _, p := range peers {
		if p.missing() != "" {
			packages = append(packages, p.packages...)
		}
	}
	if len(packages) == 0 {
		return
	}
	fmt.Fprintf(s.progress, "installing %s\n", strings.Join(packages, " "))
	for _, arguments := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq"}, packages...)} {
		command := exec.CommandContext(ctx, "apt-get", arguments...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if said, err := command.CombinedOutput(); err != nil {
			fmt.Fprintf(s.progress, "apt-get %s: %v\n%s", arguments[0], err, said)
			return
		}
	}
}

// numbered is a version, as commands print it among other words.
var numbered = regexp.MustCompile(`\d+\.\d+[\w.+~-]*`)

// versionOf returns the version that p's command says it has.
func (p peer) versionOf(ctx context.Context) string {
	if p.command == "" {
		return ""
	}
	said, _ := exec.CommandContext(ctx, p.command, p.version...).CombinedOutput()
	if v := numbered.Find(said); v != nil {
		return string(v)
	}
	return "unknown"
}

// render writes a configuration from its template, and returns where.
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
