package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrInUse says that another process has the state.
	ErrInUse = errors.New("another process has it open")
	// ErrUnavailable says that nothing was stored, and that a later try may succeed.
	ErrUnavailable = errors.New("the state cannot be written now")
	// ErrClosed says that the state has been closed.
	ErrClosed = errors.New("the state is closed")
	// ErrExists says that there is such a token already.
	ErrExists = errors.New("there is such a token already")
)

const (
	fileName = "issuer.db"

	// lockTimeout is how long a process that is about to end has to let go: a restart
	// may overlap that much.
	lockTimeout = 2 * time.Second

	// format is the version of what is in the file. Whoever changes the records
	// raises it.
	format = "1"
)

// The buckets.
var (
	metaBucket       = []byte("meta")
	keyBucket        = []byte("keys")
	tokenBucket      = []byte("tokens")
	revocationBucket = []byte("revocations")
	// expiryBucket lists what ends, by the time at which it does, so that a sweep
	// costs by what it removes.
	expiryBucket = []byte("expiries")
)

// A File is a [Store] in one file of one process, by bbolt. After an error of the disk
// that leaves open what is on it, and after damage, it takes no more writes: those
// errors do not wrap [ErrUnavailable], and what they are about may have been stored.
type File struct {
	path  string
	db    *bbolt.DB
	file  *os.File // of db, which owns it
	space int64    // most bytes of stored tokens

	changes chan change
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	once    sync.Once
	closed  error
	failed  error // why nothing more is written; the writer's, and Close's after it
}

// Open opens the state in folder. It makes both if need be, readable by nobody else,
// and takes from others what rights they have to the file. The error names the file,
// and wraps [ErrInUse] when another process has it.
func Open(folder string) (*File, error) {
	if err := makeFolder(folder); err != nil {
		return nil, err // names the folder
	}
	path := filepath.Join(folder, fileName)
	if !Exists(folder) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("making %q: %w", path, err)
		}
	}
	db, file, err := openDB(path)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	f := &File{
		path: path, db: db, file: file, space: tokenSpace,
		changes: make(chan change), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go f.write()
	return f, nil
}

// Exists reports whether there is a state in folder.
func Exists(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, fileName))
	return err == nil
}

// openDB opens the file and looks whether it is one of ours. It writes nothing, so that
// a restart works while the disk is full.
func openDB(path string) (db *bbolt.DB, file *os.File, err error) {
	err = guarded(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType,
			OpenFile: func(path string, _ int, _ os.FileMode) (*os.File, error) {
				file, err = openFile(path)
				return file, err
			},
		})
		if err != nil {
			return err
		}
		return db.View(func(tx *bbolt.Tx) error { return recognize(tx, file) })
	})
	if err == nil {
		return db, file, nil
	}
	switch {
	case db != nil:
		_ = db.Close()
	case file != nil:
		_ = release(file) // fails where bbolt has closed it
	}
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, nil, ErrInUse
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("the file is damaged, or none of the issuer's: %w", err)
	}
	return nil, nil, err
}

// openFile opens the file, for nobody but the owner. An empty one, which bbolt would
// take for new, has lost what it held: create makes none.
func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	status, err := file.Stat()
	switch {
	case err != nil:
	case status.Size() == 0:
		err = fmt.Errorf("%w: it is empty", errDamaged)
	case status.Mode().Perm()&^0o600 != 0:
		err = file.Chmod(0o600)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// recognize returns an error unless the file is whole and of this format.
func recognize(tx *bbolt.Tx, file *os.File) error {
	status, err := file.Stat()
	if err != nil {
		return err
	}
	if status.Size() < tx.Size() {
		return fmt.Errorf("%w: it has %d bytes of at least %d", errDamaged, status.Size(), tx.Size())
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return errors.New("the file is none of the issuer's")
	}
	if found := string(meta.Get([]byte("format"))); found != format {
		return fmt.Errorf("the file has format %q, and this program reads %q", found, format)
	}
	return nil
}

// Close waits for what is under way. Only its first call does anything; all return what
// came of it.
func (f *File) Close() error {
	f.once.Do(func() {
		close(f.quit)
		<-f.done
		if errors.Is(f.failed, errDamaged) {
			f.closed = errors.Join(f.failed, release(f.file)) // bbolt may wait for itself
			return
		}
		f.closed = f.db.Close()
	})
	return f.closed
}

// view reads in a transaction of its own, beside the writer.
func (f *File) view(read func(*bbolt.Tx) error) error {
	select {
	case <-f.quit:
		return ErrClosed
	default:
	}
	err := guarded(func() error { return f.db.View(read) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bbolterrors.ErrDatabaseNotOpen):
		return ErrClosed
	}
	return fmt.Errorf("reading %q: %w", f.path, err)
}
