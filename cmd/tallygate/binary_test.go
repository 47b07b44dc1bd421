package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// A gateBuild is a gate that the tests build, once for all of them.
type gateBuild struct {
	flags []string

	once sync.Once
	path string
	err  error
}

var (
	// plainGate is a gate without the race detector, which multiplies memory. Tests that bound the
	// memory of the process run it.
	plainGate = gateBuild{}
	// raceGate is a gate with the race detector. With TALLYGATE_RACE, which make test sets, every other
	// test runs it, while the tests themselves are built without the race detector, which then take a
	// third of the CPU time.
	raceGate = gateBuild{flags: []string{"-race"}}
)

func (b *gateBuild) build() (string, error) {
	b.once.Do(func() {
		dir, err := os.MkdirTemp("", "tallygate-built")
		if err != nil {
			b.err = err
			return
		}
		b.path = filepath.Join(dir, "tallygate")
		command := exec.Command("go", append(append([]string{"build"}, b.flags...), "-o", b.path, ".")...)
		if text, err := command.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%s: %w\n%s", command, err, text)
		}
	})
	return b.path, b.err
}

func (b *gateBuild) remove() {
	if b.path != "" {
		_ = os.RemoveAll(filepath.Dir(b.path))
	}
}

func runsRaceGate() bool { return os.Getenv("TALLYGATE_RACE") != "" }

// plainBinary returns the gate without the race detector.
func plainBinary(t *testing.T) string {
	t.Helper()
	path, err := plainGate.build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// binary returns the program under test: the gate with the race detector if TALLYGATE_RACE is set, else
// the test binary under the name tallygate.
func binary(t *testing.T) string {
	t.Helper()
	if runsRaceGate() {
		path, err := raceGate.build()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "tallygate")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// notShort skips t with -short, with which only the scripts start gates.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("not with -short")
	}
}
