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

	// errCorrupt replaces errors that might quote a record.
	errCorrupt = errors.New("the file is corrupt")
)

const (
	fileName = "issuer.db"

	// lockTimeout is how long Open waits for the file lock. After a restart, the new process waits
	// until the previous process has ended.
	lockTimeout = 2 * time.Second

	// format is the version of the records in the file. It is raised when the records change.
	format = "1"
)

// The buckets of the file.
var (
	metaBucket       = []byte("meta")
	keyBucket        = []byte("keys")
	tokenBucket      = []byte("tokens")
	revocationBucket = []byte("revocations")
	// expiryBucket lists tokens and revocations by their time of expiry, so that the cost of a sweep
	// depends only on the number of records that it removes.
	expiryBucket = []byte("expiries")
)

// A File has the issuer's state in one bbolt file. It is safe for concurrent use.
//
// An error that wraps [ErrUnavailable] means that the call stored nothing and that a retry may
// succeed, for example because the disk is full. After a failed fsync and after corruption a File
// accepts no more writes, because the content of the disk is unknown. Errors of such a File do not
// wrap [ErrUnavailable], and the change may have been stored.
type File struct {
	path          string
	db            *bbolt.DB
	file          *os.File // the open file of db
	maxTokenBytes int64    // bounds the bytes of stored tokens
	maxAudit      uint64   // bounds the audit records
	log           log
	clock         sweepClock

	changes chan change
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when write has returned
	once    sync.Once
	closed  error
	failed  error // why the file accepts no more writes, or nil if it accepts writes; set by write
}

// Open opens the state in folder. If the folder or the file is missing, Open creates it so that only
// its owner can read it. Open removes the permissions of other users from an existing file. The error
// names the file, and wraps [ErrInUse] if another process has the file open.
func Open(folder string) (*File, error) {
	if err := createFolder(folder); err != nil {
		return nil, err // err already names the folder
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
		path: path, db: db, file: file, maxTokenBytes: defaultTokenBytes, maxAudit: maxAudit,
		log: newLog(), changes: make(chan change), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go f.write()
	if err := f.readSwept(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Exists reports whether folder contains a state.
func Exists(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, fileName))
	return err == nil
}

// openDB opens the file and checks the version of its format. It writes nothing, so that a restart
// works while the disk is full.
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
		_ = closeFile(file) // closeFile returns an error if bbolt has already closed the file
	}
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, nil, ErrInUse
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("the file is corrupt or not a database of the issuer: %w", err)
	}
	return nil, nil, err
}

// openFile opens the file and removes the permissions of other users. It refuses an empty file:
// createFile never leaves an empty file, so the content was lost, and bbolt would initialise the file
// as new.
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

// checkFormat returns an error unless the file is complete and has the version of the format of this
// program.
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

// Current returns nil, because this process has made every change.
func (f *File) Current() error { return nil }

// LatestIssue returns now, because no other process issues tokens.
func (f *File) LatestIssue(now time.Time) (time.Time, error) { return now, nil }

// Close waits until the current transaction is committed, and closes the file. Later calls return the
// result of the first call.
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

// view calls read in a read-only transaction, which may run at the same time as the writer.
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

// catchFaults calls f and turns two kinds of panic into errors: panics of bbolt, which a corrupt file
// causes, and memory faults behind the end of a truncated file. Without catchFaults, a memory fault
// would end the process.
func catchFaults(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, cause)
		}
	}()
	return f()
}

// closeFile closes a file that bbolt leaves open after a panic. It unlocks the file first, because
// the file is still mapped, and the lock would remain after the descriptor is closed.
func closeFile(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}
