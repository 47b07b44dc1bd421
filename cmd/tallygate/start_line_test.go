package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// The first line says what starts: the build, the hash of the configuration that the metric has, and the
// counts in it. With default limits there is no warning, except about the Go release of the build.
func TestStartLine(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	hash, err := r.metric("tallygate_config_hash")
	r.check(err)
	r.check(r.stop())
	lines := r.lines("starting")
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1", len(lines))
	}
	line := lines[0]
	want := map[string]any{"level": "INFO", "partners": 3.0, "applications": 3.0, "apis": 2.0, "authorization_servers": 1.0, "config_hash": fmt.Sprintf("%012x", int64(hash))}
	for key, value := range want {
		if line[key] != value {
			t.Errorf("%s = %v, want %v", key, line[key], value)
		}
	}
	for _, key := range []string{"version", "revision", "go_version", "file"} {
		if _, ok := line[key].(string); !ok {
			t.Errorf("%s = %v, want a text", key, line[key])
		}
	}
	for line := range bytes.Lines(r.log.Bytes()) {
		if bytes.Contains(line, []byte(`"level":"WARN"`)) && !bytes.Contains(line, []byte(`"msg":"outdated Go release"`)) {
			t.Errorf("a warning with default limits: %s", line)
		}
	}
	if _, err := os.Stat(fmt.Sprint(line["file"])); err != nil {
		t.Error(err)
	}
	if _, err := strconv.ParseUint(fmt.Sprint(line["config_hash"]), 16, 64); err != nil {
		t.Error(err)
	}
}
