package filewatch

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A file that cannot be read has a digest too, and reading never waits for a writer.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	seen := Files{file: Stat(file), dir: Stat(dir)}
	if !seen.Rescan().Same(seen) {
		t.Error("Same = false for missing files, want true")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	now := seen.Rescan()
	if now.Same(seen) || !now.WrittenInPlace(seen) {
		t.Error("got Same or not WrittenInPlace for a new empty file, want a changed file written in place")
	}
	if n := now[file].Digest.Number(); n != 0xe3b0c44298fc || now[file].EndsWithNewline { // the SHA-256 of no bytes
		t.Errorf("Number = %x, want e3b0c44298fc and no final line break", int64(n))
	}
	if err := os.WriteFile(file, []byte("line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if later := now.Rescan(); later.Same(now) || !later.WrittenInPlace(now) || !later[file].EndsWithNewline {
		t.Error("got Same or not WrittenInPlace after a write, want a change in place")
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	if later := now.Rescan(); later.Same(now) || later.WrittenInPlace(now) {
		t.Error("got Same or WrittenInPlace after a rename, want a change that is not in place")
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if Stat(filepath.Join(dir, "socket")).Digest != (Digest{}) {
		t.Error("Stat returned a digest of a socket, want none")
	}
}
