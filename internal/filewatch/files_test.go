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
		t.Error("what is not there has changed")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	now := seen.Rescan()
	if now.Same(seen) || !now.WrittenInPlace(seen) {
		t.Error("an empty file is none, or is at rest")
	}
	if n := now[file].Digest.Number(); n != 0xe3b0c44298fc || now[file].EndsWithNewline { // the SHA-256 of no bytes
		t.Errorf("number %x", int64(n))
	}
	if err := os.WriteFile(file, []byte("line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if later := now.Rescan(); later.Same(now) || !later.WrittenInPlace(now) || !later[file].EndsWithNewline {
		t.Error("a file that is written to is at rest")
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	if later := now.Rescan(); later.Same(now) || later.WrittenInPlace(now) {
		t.Error("a file that takes another's place is being written to")
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if Stat(filepath.Join(dir, "socket")).Digest != (Digest{}) {
		t.Error("a socket has a content")
	}
}
