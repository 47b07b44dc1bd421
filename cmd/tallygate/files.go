package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"time"

	"github.com/tallygate/tallygate/config"
)

// maxFile bounds a file that the configuration names: the largest are revocation lists, of
// 48 MiB, and configurations, of 64 MiB.
const maxFile = 64 << 20

// writing is how long a file must have been the same that was written to, and whose place
// no other took as a whole: whoever writes to it may only have paused.
const writing = 2 * time.Second

// A content stands for what is in a file: the SHA-256 of it, zero for one that cannot be
// read.
type content [sha256.Size]byte

// number returns the first 48 bits of c, which a float64 holds exactly.
func (c content) number() (n float64) {
	for _, b := range c[:6] {
		n = n*256 + float64(b)
	}
	return n
}

// A sight is a file as it was at a moment.
type sight struct {
	content content
	about   os.FileInfo // nil: there was none
	ends    bool        // with a line break
}

// look reads a file, if it is one: a pipe that nobody writes to would never end.
func look(file string) (s sight) {
	var err error
	if s.about, err = os.Stat(file); err != nil {
		return sight{}
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
	sum.Sum(s.content[:0])
	s.ends = last[0] == '\n'
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

// checkFiles returns a fault for each file that cfg names and that nobody should open. One
// that is missing is for its reader to report.
func checkFiles(cfg *config.Config) error {
	var faults []error
	for _, file := range cfg.Files() {
		if about, err := os.Stat(file); err == nil {
			faults = append(faults, regular(file, about))
		}
	}
	return errors.Join(faults...)
}

// files are some files, by name, as they were at a moment.
type files map[string]sight

// see looks at the files that cfg names; its own, file, was seen before it was read.
func see(cfg *config.Config, file string, own sight) files {
	seen := files{file: own}
	for _, name := range cfg.Files() {
		if name != file {
			seen[name] = look(name)
		}
	}
	return seen
}

// again looks at the same files.
func (f files) again() files {
	now := make(files, len(f))
	for name := range f {
		now[name] = look(name)
	}
	return now
}

// same reports whether all files have the contents that they have in other.
func (f files) same(other files) bool {
	return maps.EqualFunc(f, other, func(a, b sight) bool { return a.content == b.content })
}

// written reports whether one of the files was written to since before, where it stood or
// as a new one, so that there may be more to come.
func (f files) written(before files) bool {
	for name, s := range f {
		if old := before[name]; s.content != old.content && s.inPlace(old) {
			return true
		}
	}
	return false
}

// inPlace reports whether s is what old was, written to, and not another file in its place.
func (s sight) inPlace(old sight) bool {
	return s.about != nil && (old.about == nil || os.SameFile(s.about, old.about))
}

// errHalf is what a configuration gets that may be the beginning of one: many a beginning
// is a configuration by itself, which allows more than the whole.
var errHalf = errors.New("it was written in place and does not end with a line break, so it may be half of itself; end it with one, or rename a whole file into its place")
