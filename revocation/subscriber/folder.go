package subscriber

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tallygate/tallygate/revocation"
)

const (
	// writeInterval is the least time between two writes of the state file. If a process is killed, the file lacks the
	// revocations that came in this time.
	writeInterval = time.Second
	// writeRate bounds the writes in bytes per second. A million revocations are 45 MB, which are then written each 45 s.
	writeRate = 1_000_000
)

// A folder keeps the knowledge of a process in a file. The file is replaced as a whole, so that a process that ends during a write
// leaves the previous file. Only a file that is written at the end of the process says when the set was last known to be
// complete: a file of a killed process may lack what the process knew.
type folder struct {
	path string // of the folder

	mu         sync.Mutex // held during a write; the Subscribers of two configurations may share the folder
	changes    uint64     // the number of changes of the knowledge at the last write
	size       int64      // of the file at the last write
	tried      time.Time  // when the last write began; zero: never
	completeAt time.Time  // when the set was last known to be complete, as the file says; zero: the file does not say
	written    bool       // a write has succeeded
	known      *knowledge // the argument of the last save; nil before the first save
	source     string     // as in the last save
}

func (f *folder) file() string { return filepath.Join(f.path, "revocations") }

// load adds the entries of the file to known. It returns a missing file as an error that wraps fs.ErrNotExist. After any
// other error the file is as if it did not exist, except for a file with a time after now: its entries are used, and its
// time and its position are not.
func (f *folder) load(known *knowledge, source string, now time.Time) error {
	file, err := openState(f.file())
	if err != nil {
		return withoutPath(err)
	}
	defer func() { _ = file.Close() }()
	var entries []revocation.Entry
	flush := func() error {
		err := known.add(entries)
		entries = entries[:0]
		return err
	}
	head, err := readState(file, func(head fileHead) error {
		f.completeAt = head.completeAt
		if head.source != source {
			return errFileSource
		}
		return nil
	}, func(e revocation.Entry) error {
		if entries = append(entries, e); len(entries) == revocation.BatchSize {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	age := now.Round(0).Sub(head.completeAt) // by the clock of the machine, because the file is of another process
	if age < 0 {
		return errFileFuture
	}
	known.restore(head.position)
	if !head.completeAt.IsZero() {
		completeAt := now.Add(-age)
		known.completeAt.Store(&completeAt)
		known.loaded.Store(&now)
	}
	return nil
}

var (
	errFileSource = errors.New("the file has the revocations of another issuer, or other anchors or keys were accepted")
	errFileFuture = errors.New("the time in the file is in the future: a clock has been changed")
)

// due reports whether known should be written: it has changed, another Subscriber has written the file, or the file says
// when the set was complete. With atOnce, due ignores writeInterval and writeRate.
func (f *folder) due(known *knowledge, source string, now time.Time, atOnce bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := max(writeInterval, time.Duration(f.size)*time.Second/writeRate)
	switch {
	case known.count() == 0 && f.completeAt.IsZero():
		return false
	case !atOnce && !f.tried.IsZero() && now.Sub(f.tried) < rest:
		return false
	}
	return !f.written || known.count() != f.changes || known != f.known || source != f.source || !f.completeAt.IsZero()
}

// save replaces the file by a file with known, which does not say when the set was complete.
func (f *folder) save(known *knowledge, source string, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried = now
	err := f.write(known, source, time.Time{})
	if err != nil && !f.completeAt.IsZero() {
		f.forget(known)
	}
	return err
}

// forget removes a file that says when the set was complete and cannot be replaced, as on a full disk. If the file cannot be
// removed either, this process ignores the time in the file. The caller holds f.mu.
func (f *folder) forget(known *knowledge) {
	if os.Remove(f.file()) == nil {
		f.completeAt = time.Time{}
	} else if known.loaded.Swap(nil) != nil {
		known.completeAt.Store(nil)
	}
}

// write replaces the file. The caller holds f.mu.
func (f *folder) write(known *knowledge, source string, completeAt time.Time) error {
	// The changes and the position are read before the entries, so that an entry that is added during the
	// write causes another write.
	changes := known.count()
	head := fileHead{source: source, position: known.readPosition(), completeAt: completeAt}
	size, err := f.replace(head, known.set)
	if err != nil {
		return withoutPath(err)
	}
	f.changes, f.size, f.completeAt, f.written, f.known, f.source = changes, size, completeAt, true, known, source
	return nil
}

// close writes the file once more at the end of the process, after the last message of the stream, with the time at which
// the set was last known to be complete. After an error the file lacks this time, and the next process waits for a stream.
func (f *folder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known != nil {
		_ = f.write(f.known, f.source, f.known.lastComplete())
	}
}

// replace writes a new file beside the file, and renames it.
func (f *folder) replace(head fileHead, set *revocation.Set) (size int64, err error) {
	if err := os.MkdirAll(f.path, 0o700); err != nil {
		return 0, err
	}
	name := f.file() + ".new"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // a killed process has left it
		return 0, err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	err = writeState(file, head, set.Each)
	if err == nil {
		err = file.Sync()
	}
	if about, failed := file.Stat(); failed == nil {
		size = about.Size()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(name, f.file())
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(name))
	}
	return size, f.sync()
}

// sync makes the rename durable.
func (f *folder) sync() error {
	folder, err := os.Open(f.path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// openState opens the state file at path. Only the user of this process, or root, may be able to write it.
func openState(path string) (*os.File, error) {
	about, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	owner, ok := about.Sys().(*syscall.Stat_t)
	if !about.Mode().IsRegular() || about.Mode().Perm()&0o022 != 0 || !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%w: its mode is %s", errFileMode, about.Mode())
	}
	return os.Open(path)
}

// withoutPath returns the cause of err without the path, which is in the log line already.
func withoutPath(err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}
