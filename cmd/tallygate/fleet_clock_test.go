//go:build fleet

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// clockVariable is the environment variable with the seconds by which a gate of buildClockGate is ahead.
const clockVariable = "TEST_CLOCK_AHEAD"

// buildClockGate builds a gate whose wall clock the environment shifts. Go calls the system's clock without a C
// library, so that a preloaded library cannot shift it, and the product has no setting for it. The shift is in the
// build's own copy of package time.
func buildClockGate(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const reading = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	before, after, found := strings.Cut(string(text), reading)
	if !found {
		t.Fatalf("%s does not read the clock as %q", original, reading)
	}
	shifted := before + reading + "\tsec += ahead\n" + after + `
var ahead = func() (seconds int64) {
	text, _ := syscall.Getenv("` + clockVariable + `")
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	for _, digit := range []byte(text) {
		seconds = 10*seconds + int64(digit-'0')
	}
	if negative {
		return -seconds
	}
	return seconds
}()
`
	shifted = strings.Replace(shifted, "import (\n", "import (\n\t\"syscall\"\n", 1)
	dir := t.TempDir()
	replacement, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	gatetest.WriteFile(t, replacement, []byte(shifted))
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		t.Fatal(err)
	}
	gatetest.WriteFile(t, overlay, list)
	path := filepath.Join(dir, "tallygate")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("building a gate with a shifted clock: %v\n%s", err, out)
	}
	return path
}

// Two sidecars whose clocks are 30 s ahead and 30 s behind refuse every revoked target, and grant the others.
func TestFleetClocks(t *testing.T) {
	f := newFleet(t, 12)
	f.program = buildClockGate(t)
	for _, ahead := range []string{"30", "-30"} {
		s := &sidecar{stateful: f.replica(), name: "sidecar" + ahead, open: map[string]*http.Client{}}
		s.environment = []string{clockVariable + "=" + ahead}
		gatetest.WriteFile(t, filepath.Join(f.dir, s.name+".yaml"), []byte(f.sidecarConfig(s, []string{"max_staleness: 5s", "state: state" + ahead})))
		f.sidecars = append(f.sidecars, s)
		f.startSidecar(s)
	}
	f.fetchAll()
	w := f.witness(fleetMargin)
	for i := range 12 {
		f.check(f.revoke(&f.targets[i], i%2))
		w.acknowledge(&f.targets[i])
	}
	time.Sleep(fleetMargin)
	w.end()
	for _, s := range f.sidecars {
		f.answers(s, f.spared(), http.StatusOK, "")
	}
}
