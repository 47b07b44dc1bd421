package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrInUse means that another process has the state open.
	ErrInUse = errors.New("another process has it open")
	// ErrUnavailable means that nothing was stored and that a retry may succeed.
	ErrUnavailable = errors.New("the state cannot be written now")
	// ErrClosed means that the state has been closed.
	ErrClosed = errors.New("the state is closed")
	// ErrExists means that the token is stored already.
	ErrExists = errors.New("the token is stored already")

	// errCorrupt replaces errors that might quote a record.
	errCorrupt = errors.New("the file is corrupt")
)

const (
	fileName = "issuer.db"

	// lockTimeout is how long Open waits for the file lock, so that a restart may overlap with the
	// end of the old process.
	lockTimeout = 2 * time.Second

	// format is the version of the records in the file. A change of the records raises it.
	format = "1"
)

// The buckets of the file.
var (
	metaBucket       = []byte("meta")
	keyBucket        = []byte("keys")
	tokenBucket      = []byte("tokens")
	revocationBucket = []byte("revocations")
	// expiryBucket lists tokens and revocations by their time of expiry, so that the cost of a
	// sweep depends only on what it removes.
	expiryBucket = []byte("expiries")
)

// A File holds the issuer's state in one bbolt file. It is safe for concurrent use.
//
// An error that wraps [ErrUnavailable] means that the call stored nothing and that a retry may
// succeed, for example when the disk is full. A File accepts no more writes after a failed fsync and
// after corruption, because then the content of the disk is unknown. Those errors do not wrap
// [ErrUnavailable], and the change may have been stored.
type File struct {
	path          string
	db            *bbolt.DB
	file          *os.File // owned by db
	maxTokenBytes int64    // stored tokens

	changes chan change
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when write returns
	once    sync.Once
	closed  error
	failed  error // why the file accepts no more writes; set by write
}

// Open opens the state in folder. It creates the folder and the file if they are missing,
// readable by their owner alone, and removes the permissions of other users from an existing
// file. The error names the file, and wraps [ErrInUse] if another process has it open.
func Open(folder string) (*File, error) {
	if err := createFolder(folder); err != nil {
		return nil, err // err names the folder
	}
	path := filepath.Join(folder, fileName)
	if !Exists(folder) {
		if err := createFile(path); err != nil {
			return nil, fmt.Errorf("creating %q: %w", path, err)
		}
	}
	db, file, err := openDB(path)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	f := &File{
		path: path, db: db, file: file, maxTokenBytes: defaultTokenBytes,
		changes: make(chan change), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go f.write()
	return f, nil
}

// Exists reports whether folder holds a state.
func Exists(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, fileName))
	return err == nil
}

// openDB opens the file and checks its format. It writes nothing, so that a restart works while
// the disk is full.
func openDB(path string) (db *bbolt.DB, file *os.File, err error) {
	err = catchFaults(func() (err error) {
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
		return db.View(func(tx *bbolt.Tx) error { return checkFormat(tx, file) })
	})
	if err == nil {
		return db, file, nil
	}
	switch {
	case db != nil:
		_ = db.Close()
	case file != nil:
		_ = closeFile(file) // closeFile fails if bbolt has closed the file
	}
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, nil, ErrInUse
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("the file is corrupt or not a database of the issuer: %w", err)
	}
	return nil, nil, err
}

// openFile opens the file and restricts it to its owner. An empty file has lost its content,
// since createFile never leaves one; bbolt would initialise it as new.
func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	status, err := file.Stat()
	switch {
	case err != nil:
	case status.Size() == 0:
		err = fmt.Errorf("%w: it is empty", errCorrupt)
	case status.Mode().Perm()&^0o600 != 0:
		err = file.Chmod(0o600)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// checkFormat returns an error unless the file is complete and has the format of this program.
func checkFormat(tx *bbolt.Tx, file *os.File) error {
	status, err := file.Stat()
	if err != nil {
		return err
	}
	if status.Size() < tx.Size() {
		return fmt.Errorf("%w: it has %d bytes, want at least %d", errCorrupt, status.Size(), tx.Size())
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return errors.New("the file is not a database of the issuer")
	}
	if found := string(meta.Get([]byte("format"))); found != format {
		return fmt.Errorf("the file has format %q, want %q", found, format)
	}
	return nil
}

// Close waits for the transaction that is being committed and closes the file. Later calls
// return the result of the first.
func (f *File) Close() error {
	f.once.Do(func() {
		close(f.quit)
		<-f.done
		if errors.Is(f.failed, errCorrupt) {
			f.closed = errors.Join(f.failed, closeFile(f.file)) // db.Close may deadlock after a panic in bbolt
			return
		}
		f.closed = f.db.Close()
	})
	return f.closed
}

// view runs read in a read-only transaction, concurrently with the writer.
func (f *File) view(read func(*bbolt.Tx) error) error {
	select {
	case <-f.quit:
		return ErrClosed
	default:
	}
	err := catchFaults(func() error { return f.db.View(read) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bbolterrors.ErrDatabaseNotOpen):
		return ErrClosed
	}
	return fmt.Errorf("reading %q: %w", f.path, err)
}

// catchFaults runs f. It turns panics of bbolt, which a corrupt file causes, and faults on
// memory behind the end of a truncated file into errors. Such a fault would end the process.
func catchFaults(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, cause)
		}
	}()
	return f()
}

// closeFile closes a file that bbolt leaves open after a panic. It unlocks the file first:
// the file is still mapped, so the lock would outlive the descriptor.
func closeFile(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}
