package mtls

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A lock excludes every other holder, in this process or another, and waits for it.
func TestFolderLocks(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := newFolder(dir), newFolder(dir)
	take := func(f *folder, name string, want bool) {
		t.Helper()
		if taken, err := f.TryLock(t.Context(), name); taken != want || err != nil {
			t.Errorf("%s: %t, %v", name, taken, err)
		}
	}
	take(ours, "issue_cert_a.example", true)
	take(ours, "issue_cert_a.example", false)
	take(theirs, "issue_cert_a.example", false)
	take(theirs, "issue_cert_b.example", true)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := theirs.Lock(short, "issue_cert_a.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting ended with %v", err)
	}
	var unlocked atomic.Bool
	locked := make(chan error)
	go func() {
		err := theirs.Lock(t.Context(), "issue_cert_a.example")
		if !unlocked.Load() {
			err = errors.New("it was not free yet")
		}
		locked <- err
	}()
	time.Sleep(2 * lockPoll)
	unlocked.Store(true)
	if err := ours.Unlock(t.Context(), "issue_cert_a.example"); err != nil {
		t.Error(err)
	}
	if err := <-locked; err != nil {
		t.Error(err)
	}
	if err := ours.Unlock(t.Context(), "issue_cert_a.example"); err == nil {
		t.Error("unlocked what is another's")
	}
	// As the end of a process does.
	for _, file := range theirs.locks {
		_ = file.Close()
	}
	take(ours, "issue_cert_a.example", true)
	take(ours, "issue_cert_b.example", true)
	for _, file := range ours.locks {
		_ = file.Close()
	}
}

func TestMakeFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b")
	for range 2 { // made, and there already
		if err := makeFolder(path); err != nil {
			t.Error(err)
		}
		if about, err := os.Stat(path); err != nil || about.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", about, err)
		}
	}
	for mode, fine := range map[os.FileMode]bool{0o755: true, 0o750: true, 0o770: false, 0o702: false, 0o777: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := makeFolder(path); (err == nil) != fine {
			t.Errorf("%v: %v", mode, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := makeFolder(path); err == nil {
			t.Errorf("%s is a folder", path)
		}
	}
}

// What cannot be written to is named, and a check leaves nothing behind.
func TestFolderCheck(t *testing.T) {
	dir := t.TempDir()
	if err := newFolder(dir).check(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	err := newFolder(filepath.Join(dir, "gone")).check()
	if err == nil || !strings.Contains(err.Error(), "writing to listener.certificate.acme.storage") || !strings.Contains(err.Error(), filepath.Join(dir, "gone")) {
		t.Errorf("a folder that is gone: %v", err)
	}
}
