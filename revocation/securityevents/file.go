package securityevents

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tallygate/tallygate/revocation"
)

const (
	fileName = "revocations.jsonl"
	// maxHeld bounds the revocations of each kind in a File, which has the revocations of one server: 2^18 entries with
	// texts of 300 bytes take 100 MiB.
	maxHeld = 1 << 18
	// maxLine bounds a line of the file in bytes. JSON escapes a byte of a text with at most six bytes, and the longest
	// line has two texts, iss and sub: 2 × 6 × maxText = 12 KiB.
	maxLine = 16 << 10
	// spareLines is how many lines of expired or repeated revocations the file may have before it is
	// written again.
	spareLines = 10_000
)

// A File has the revocations of one server in a folder, for a process without our own issuer. Each line is a
// revocation as JSON. It is safe for concurrent use.
type File struct {
	path string
	now  func() time.Time
	set  *revocation.Set

	mu     sync.Mutex
	lock   *os.File // the lock of the folder
	file   *os.File // nil after Close
	size   int64    // bytes that are acknowledged
	lines  int
	broken error // after a failed write that could not be undone
}

// Open opens the File in the folder dir, and creates the folder and the File. It locks the folder against other processes. A
// last line without its end was never acknowledged and is dropped. Any other line that is not a revocation is an error.
func Open(dir string, now func() time.Time) (_ *File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the state of security events: %w", err)
	}
	f := &File{path: filepath.Join(dir, fileName), now: now, set: revocation.NewSet()}
	if f.lock, err = os.Open(dir); err != nil {
		return nil, fmt.Errorf("opening the state of security events: %w", err)
	}
	err = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another process has the folder open")
	}
	if err == nil {
		err = f.load()
	}
	if err == nil {
		err = f.rewrite()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the state of security events in %q: %w", dir, err), f.lock.Close())
	}
	return f, nil
}

// Read returns the revocations in the folder dir, which may be open in another process. It changes nothing. A folder or File
// that does not exist has no revocations.
func Read(dir string) (*revocation.Set, error) {
	f := &File{path: filepath.Join(dir, fileName), set: revocation.NewSet()}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("reading the state of security events in %q: %w", dir, err)
	}
	return f.set, nil
}

// Close closes f. Later calls of Add return an error.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := errors.Join(f.file.Close(), f.lock.Close())
	f.file, f.broken = nil, os.ErrClosed
	return err
}

// Set returns the revocations in f.
func (f *File) Set() *revocation.Set { return f.set }

// Add returns nil once the entries are on disk and in the set. The error is [revocation.ErrFull] if there is no room.
func (f *File) Add(entries []revocation.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	if f.lines > f.held()+spareLines {
		if err := f.rewrite(); err != nil {
			return err
		}
	}
	if f.isFull() {
		return revocation.ErrFull
	}
	text, err := encode(entries)
	if err != nil {
		return err
	}
	if err := f.append(text); err != nil {
		return err
	}
	f.lines += len(entries)
	for _, e := range entries {
		if err := f.set.Add(e); err != nil {
			return err
		}
	}
	return nil
}

// isFull reports whether there is no room for further entries. The entries of one call of Add may exceed the bound.
func (f *File) isFull() bool {
	return f.set.Len(revocation.ForeignToken) >= maxHeld || f.set.Len(revocation.ForeignSubject) >= maxHeld
}

func (f *File) held() int {
	return f.set.Len(revocation.ForeignToken) + f.set.Len(revocation.ForeignSubject)
}

// append writes text at the end of the file and syncs it. After an error the file is as before, or f is broken: after a
// failed sync the content of the disk is unknown.
func (f *File) append(text []byte) error {
	if _, err := f.file.WriteAt(text, f.size); err != nil {
		if undone := f.file.Truncate(f.size); undone != nil {
			f.broken = errors.Join(err, undone)
		}
		return err
	}
	if err := f.file.Sync(); err != nil {
		f.broken = err
		return err
	}
	f.size += int64(len(text))
	return nil
}

func encode(entries []revocation.Entry) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b) // ends each value with a line break
	for _, e := range entries {
		if err := encoder.Encode(e); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// load reads the file into the set.
func (f *File) load() error {
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, maxLine)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) { // the line has no end, or is empty
			return nil
		}
		var e revocation.Entry
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err == nil {
			err = f.set.Add(e)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: not a revocation: %w", fileName, number, err)
		}
	}
}

// rewrite removes expired revocations, and replaces the file by a file with one line for each revocation.
func (f *File) rewrite() (err error) {
	f.set.Sweep(f.now())
	var entries []revocation.Entry
	f.set.Each(func(e revocation.Entry) bool { entries = append(entries, e); return true })
	text, err := encode(entries)
	if err != nil {
		return err
	}
	next, err := os.OpenFile(f.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = next.Write(text)
	if err = errors.Join(err, next.Sync()); err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err != nil {
		return errors.Join(err, next.Close())
	}
	previous := f.file
	f.file, f.size, f.lines = next, int64(len(text)), len(entries)
	if err := f.lock.Sync(); err != nil { // the folder: without it, a crash may bring the previous file back
		f.broken = err
		return err
	}
	if previous != nil {
		return previous.Close()
	}
	return nil
}
