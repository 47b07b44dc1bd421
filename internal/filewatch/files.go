// Package filewatch detects changed files. It takes digests of named files and gets notifications
// about their folders from the system.
package filewatch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"time"
)

// maxFile bounds a file that the configuration names. The largest such files are revocation lists, with
// 48 MiB, and configurations, with 64 MiB.
const maxFile = 64 << 20

// InPlaceQuietPeriod is how long a file that was written in place must stay unchanged before the gate
// takes it as complete. During a shorter time the writer may only have paused. A file that was renamed
// into place is complete at once.
const InPlaceQuietPeriod = 2 * time.Second

// A Digest is the SHA-256 of a file's content, or zero for a file that cannot be read.
type Digest [sha256.Size]byte

// String returns the 48 bits of [Digest.Number] in hexadecimal.
func (c Digest) String() string { return hex.EncodeToString(c[:6]) }

// Number returns the first 48 bits of c, which a float64 holds exactly.
func (c Digest) Number() (n float64) {
	for _, b := range c[:6] {
		n = n*256 + float64(b)
	}
	return n
}

// A FileState describes a file at one moment.
type FileState struct {
	Digest          Digest
	about           os.FileInfo // nil: the file did not exist
	EndsWithNewline bool        // the last byte of the file is a line break
}

// Stat reads file if it is a regular file. It does not open a pipe, because a pipe without a writer
// would block the read forever.
func Stat(file string) (s FileState) {
	var err error
	if s.about, err = os.Stat(file); err != nil {
		return FileState{}
	}
	if regular(file, s.about) != nil {
		return s
	}
	f, err := os.Open(file)
	if err != nil {
		return s
	}
	defer f.Close()
	sum, last := sha256.New(), make([]byte, 1)
	if _, err := io.Copy(io.MultiWriter(sum, lastByte(last)), io.LimitReader(f, maxFile+1)); err != nil {
		return s
	}
	sum.Sum(s.Digest[:0])
	s.EndsWithNewline = last[0] == '\n'
	return s
}

// lastByte is a writer that keeps the last byte.
type lastByte []byte

func (l lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l[0] = p[len(p)-1]
	}
	return len(p), nil
}

func regular(file string, about os.FileInfo) error {
	switch {
	case !about.Mode().IsRegular():
		return fmt.Errorf("%q is not a regular file", file)
	case about.Size() > maxFile:
		return fmt.Errorf("%q is larger than %d MiB", file, maxFile>>20)
	}
	return nil
}

// CheckFiles returns an error for each named file that must not be opened: pipes, devices and files
// that are too large. CheckFiles ignores a missing file, because the code that reads the file
// reports it.
func CheckFiles(names []string) error {
	var faults []error
	for _, file := range names {
		if about, err := os.Stat(file); err == nil {
			faults = append(faults, regular(file, about))
		}
	}
	return errors.Join(faults...)
}

// Files holds the states of named files.
type Files map[string]FileState

// Take returns the states of the named files. own is the state of file, which the caller took earlier.
func Take(names []string, file string, own FileState) Files {
	seen := Files{file: own}
	for _, name := range names {
		if name != file {
			seen[name] = Stat(name)
		}
	}
	return seen
}

// Rescan returns the present states of the same files.
func (f Files) Rescan() Files {
	now := make(Files, len(f))
	for name := range f {
		now[name] = Stat(name)
	}
	return now
}

// Same reports whether other has the same files with the same digests.
func (f Files) Same(other Files) bool {
	return maps.EqualFunc(f, other, func(a, b FileState) bool { return a.Digest == b.Digest })
}

// WrittenInPlace reports whether a file was created or changed in place after the states in before were
// taken. The writer of such a file may not have finished.
func (f Files) WrittenInPlace(before Files) bool {
	for name, s := range f {
		if old := before[name]; s.Digest != old.Digest && s.InPlace(old) {
			return true
		}
	}
	return false
}

// InPlace reports whether the change from old to s was made in place: the states are of the same file,
// or the file did not exist in old. It returns false if another file was renamed to the file's name.
func (s FileState) InPlace(old FileState) bool {
	return s.about != nil && (old.about == nil || os.SameFile(s.about, old.about))
}

// ErrPossiblyTruncated is returned for a configuration file whose end may be missing. The beginning of
// a configuration can be a valid configuration that allows more than the whole file does.
var ErrPossiblyTruncated = errors.New("the file was written in place and does not end with a line break, so it may be truncated; add a line break, or rename a complete file over it")
