package filewatch

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A folder with two names is watched once. Otherwise each call would report a new folder, and each
// report makes the caller read all files again.
func TestWatchedOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("gate.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := filepath.Abs("gate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := New(slog.New(slog.DiscardHandler), time.Second)
	defer w.Close()
	of := Files{"gate.yaml": {}, whole: {}}
	if !w.Follow(of) {
		t.Error("the first Follow reported no new folder, want one")
	}
	for range 3 {
		if w.Follow(of) {
			t.Error("a later Follow reported a new folder, want none")
		}
	}
}

// A linked folder is reported as new only once.
func TestWatchOfALinkedFolder(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "real"), 0o700),
		os.Symlink("real", filepath.Join(dir, "link")),
		os.WriteFile(filepath.Join(dir, "real", "file"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "link", "file")
	w := New(slog.New(slog.DiscardHandler), time.Second)
	defer w.Close()
	for i := range 5 {
		if w.Follow(Files{file: Stat(file)}) && i > 0 {
			t.Errorf("Follow in call %d reported a new folder, want none", i)
		}
	}
}

// A folder that appears later and a folder that replaces another are watched.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "file")
	log := &bytes.Buffer{}
	w := New(slog.New(slog.NewJSONHandler(log, nil)), time.Second)
	defer w.Close()
	tells := func(want bool, what string, do func() error) {
		t.Helper()
		w.Follow(Files{file: Stat(file)})
		if w.Follow(Files{file: Stat(file)}) {
			t.Errorf("%s: Follow reported a new folder, want a watched one", what)
		}
		for len(w.Changed) > 0 {
			<-w.Changed
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
		wait := 10 * time.Second
		if !want {
			wait = 200 * time.Millisecond
		}
		select {
		case <-w.Changed:
			if !want {
				t.Errorf("%s: got a notification, want none", what)
			}
		case <-time.After(wait):
			if want {
				t.Errorf("%s: got no notification, want one", what)
			}
		}
	}
	write := func(name string) func() error {
		return func() error { return os.WriteFile(filepath.Join(dir, "sub", name), []byte(time.Now().String()), 0o600) }
	}
	tells(false, "a folder that is not watched yet", func() error { return os.Mkdir(filepath.Join(dir, "sub"), 0o700) })
	tells(true, "its file", write("file"))
	tells(true, "its file, again", write("file"))
	tells(true, "another, as it comes", write("log"))
	tells(false, "another, as it is written to", write("log"))
	tells(false, "the mode of its file", func() error { return os.Chmod(file, 0o400) })
	tells(true, "another name", func() error { return os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "gone")) })
	tells(false, "a folder in its place", func() error { return os.Mkdir(filepath.Join(dir, "sub"), 0o700) })
	if !w.Follow(Files{file: Stat(file)}) {
		t.Error("Follow reported no new folder after a replacement, want one")
	}
	tells(true, "the file in that", write("file"))
	if text := log.Bytes(); len(bytes.TrimSpace(text)) > 0 {
		t.Errorf("got log lines %s, want none", text)
	}
}
