package main

import (
	"bytes"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/buildinfo"
)

// version and serve warn only of Go releases with known security holes.
func TestOutdatedWarning(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	var stdout, stderr bytes.Buffer
	command := exec.Command(binary(t), "version", "-o", "json")
	command.Stdout, command.Stderr = &stdout, &stderr
	r.check(command.Run())
	warned := r.lines("outdated Go release")
	if better := buildinfo.Outdated(runtime.Version()); better != "" {
		if !strings.Contains(stderr.String(), better) || len(warned) != 1 || !strings.Contains(warned[0]["advice"].(string), better) {
			t.Errorf("version says %q, serve says %v; want %s in both", &stderr, warned, better)
		}
	} else if stderr.Len() > 0 || len(warned) > 0 {
		t.Errorf("version says %q, serve says %v; want no warning", &stderr, warned)
	}
	if !strings.Contains(stdout.String(), runtime.Version()) || strings.Contains(stdout.String(), "warning") {
		t.Errorf("version prints %s", &stdout)
	}
	r.check(r.stop())
}
