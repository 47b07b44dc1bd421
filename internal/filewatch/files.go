// Package filewatch finds out when files have changed: it takes digests of named files and gets
// notifications of the system for their folders.
package filewatch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"time"
)

// maxFile bounds a file that the configuration names: the largest are revocation lists, of
// 48 MiB, and configurations, of 64 MiB.
const maxFile = 64 << 20

// InPlaceQuietPeriod is how long a file must have been the same that was written to, and whose place
// no other took as a whole: whoever writes to it may only have paused.
const InPlaceQuietPeriod = 2 * time.Second

// A Digest stands for what is in a file: the SHA-256 of it, zero for one that cannot be
// read.
type Digest [sha256.Size]byte

// Number returns the first 48 bits of c, which a float64 holds exactly.
func (c Digest) Number() (n float64) {
	for _, b := range c[:6] {
		n = n*256 + float64(b)
	}
	return n
}

// A FileState is a file as it was at a moment.
type FileState struct {
	Digest          Digest
	about           os.FileInfo // nil: there was none
	EndsWithNewline bool        // with a line break
}

// Stat reads a file, if it is one: a pipe that nobody writes to would never end.
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

// lastByte keeps the last byte of what is written.
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

// CheckFiles returns a fault for each of the named files that nobody should open. One
// that is missing is for its reader to report.
func CheckFiles(names []string) error {
	var faults []error
	for _, file := range names {
		if about, err := os.Stat(file); err == nil {
			faults = append(faults, regular(file, about))
		}
	}
	return errors.Join(faults...)
}

// Files are some files, by name, as they were at a moment.
type Files map[string]FileState

// Take looks at the named files; file was seen before, as own.
func Take(names []string, file string, own FileState) Files {
	seen := Files{file: own}
	for _, name := range names {
		if name != file {
			seen[name] = Stat(name)
		}
	}
	return seen
}

// Rescan looks at the same files.
func (f Files) Rescan() Files {
	now := make(Files, len(f))
	for name := range f {
		now[name] = Stat(name)
	}
	return now
}

// Same reports whether all files have the contents that they have in other.
func (f Files) Same(other Files) bool {
	return maps.EqualFunc(f, other, func(a, b FileState) bool { return a.Digest == b.Digest })
}

// WrittenInPlace reports whether one of the files was written to since before, where it stood or
// as a new one, so that there may be more to come.
func (f Files) WrittenInPlace(before Files) bool {
	for name, s := range f {
		if old := before[name]; s.Digest != old.Digest && s.InPlace(old) {
			return true
		}
	}
	return false
}

// InPlace reports whether s is what old was, written to, and not another file in its place.
func (s FileState) InPlace(old FileState) bool {
	return s.about != nil && (old.about == nil || os.SameFile(s.about, old.about))
}

// ErrPossiblyTruncated is what a configuration gets that may be the beginning of one: many a beginning
// is a configuration by itself, which allows more than the whole.
var ErrPossiblyTruncated = errors.New("it was written in place and does not end with a line break, so it may be half of itself; end it with one, or rename a whole file into its place")
