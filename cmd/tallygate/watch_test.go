package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// A folder that is named in two ways is watched once: otherwise it would be new at each
// look, each of which has all files read again a moment later.
func TestWatchedOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("gate.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := filepath.Abs("gate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWatch(slog.New(slog.DiscardHandler))
	defer w.close()
	of := files{"gate.yaml": {}, whole: {}}
	if !w.follow(of) {
		t.Error("the folder is no news")
	}
	for range 3 {
		if w.follow(of) {
			t.Error("the folder is news again")
		}
	}
}
