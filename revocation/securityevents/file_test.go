package securityevents

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/revocation"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func subjectEntry(name string) revocation.Entry {
	return revocation.Entry{
		Kind: revocation.ForeignSubject, Subject: revocation.ForeignSubjectName(gatetest.Issuer, name),
		IssuedBy: noon, Until: noon.Add(revocation.ForeignRetention),
	}
}

func tokenEntry(id string, until time.Time) revocation.Entry {
	return revocation.Entry{Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum(gatetest.Issuer, id), Until: until}
}

func open(t *testing.T, dir string, now time.Time) (*File, error) {
	t.Helper()
	f, err := Open(dir, func() time.Time { return now })
	if err == nil {
		t.Cleanup(func() { _ = f.Close() })
	}
	return f, err
}

func mustOpen(t *testing.T, dir string, now time.Time) *File {
	t.Helper()
	f, err := open(t, dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantHeld(t *testing.T, f *File, subjects, tokens int) {
	t.Helper()
	if s, n := f.Set().Len(revocation.ForeignSubject), f.Set().Len(revocation.ForeignToken); s != subjects || n != tokens {
		t.Errorf("%d subjects and %d tokens are held, want %d and %d", s, n, subjects, tokens)
	}
}

// A File keeps each acknowledged entry until the entry expires, and a second Open of the same folder fails.
func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	f := mustOpen(t, dir, noon)
	if err := f.Add([]revocation.Entry{subjectEntry("alice"), tokenEntry("t1", noon.Add(time.Hour))}); err != nil {
		t.Fatal(err)
	}
	if err := f.Add([]revocation.Entry{subjectEntry("alice"), subjectEntry("bob")}); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, f, 2, 1)
	if _, err := open(t, dir, noon); err == nil {
		t.Error("a second Open = nil, want an error")
	}
	copied, err := os.ReadFile(f.path) // the file as kill -9 leaves it
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Add([]revocation.Entry{subjectEntry("carol")}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Add after Close = %v, want %v", err, os.ErrClosed)
	}
	f = mustOpen(t, dir, noon)
	wantHeld(t, f, 2, 1)
	_ = f.Close()
	for name, tail := range map[string]string{"whole": "", "torn": `{"foreign_subject":{"iss":"https://as`} {
		killed := t.TempDir()
		gatetest.WriteFile(t, filepath.Join(killed, fileName), append(copied, tail...))
		f := mustOpen(t, killed, noon)
		wantHeld(t, f, 2, 1)
		if err := f.Add([]revocation.Entry{subjectEntry("carol")}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = f.Close()
		wantHeld(t, mustOpen(t, killed, noon), 3, 1)
	}
	f = mustOpen(t, dir, noon.Add(2*time.Hour))
	wantHeld(t, f, 2, 0)
	_ = f.Close()
	wantHeld(t, mustOpen(t, dir, noon.Add(revocation.ForeignRetention+time.Second)), 0, 0)
}

// Open refuses a file with a line that is not a revocation, and does not change the file.
func TestCorruptFile(t *testing.T) {
	for _, line := range []string{"{}\n", "\n", "null\n", `{"foreign_token":"x"}` + "\n", strings.Repeat("x", maxLine+1) + "\n", `{"foreign_subject":{"iss":"a","sub":"b"},"issued_by":1,"other":1}` + "\n"} {
		dir := t.TempDir()
		path := filepath.Join(dir, fileName)
		gatetest.WriteFile(t, path, []byte(line))
		if _, err := open(t, dir, noon); err == nil || !strings.Contains(err.Error(), fileName+":1") {
			t.Errorf("Open with the line %.20q = %v, want an error with the line", line, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != line {
			t.Errorf("the file has changed: %v", err)
		}
	}
}

// Repeated events do not make the file grow, and Add to a full File returns revocation.ErrFull.
func TestFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	f := mustOpen(t, dir, noon)
	same := make([]revocation.Entry, 1000)
	for i := range same {
		same[i] = subjectEntry("alice")
	}
	for range 3 * spareLines / len(same) {
		if err := f.Add(same); err != nil {
			t.Fatal(err)
		}
	}
	if f.lines > spareLines+2*len(same) {
		t.Errorf("%d lines for one revocation, want at most %d", f.lines, spareLines+2*len(same))
	}
	for i := range maxHeld {
		if err := f.set.Add(tokenEntry(fmt.Sprint(i), noon)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Add([]revocation.Entry{subjectEntry("dave")}); !errors.Is(err, revocation.ErrFull) {
		t.Errorf("Add to a full File = %v, want %v", err, revocation.ErrFull)
	}
}
