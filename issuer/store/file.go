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

// A File is a [Store] in one file of one process, by bbolt.
type File struct {
	db *bbolt.DB

	changes chan change
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	once    sync.Once
	closed  error
}

// Open opens the state in folder, which it makes if need be, both readable by nobody
// else. The error wraps [ErrInUse] when another process has it.
func Open(folder string) (*File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err // names the folder
	}
	status, err := os.Stat(folder)
	if err != nil {
		return nil, err
	}
	if status.Mode().Perm()&0o022 != 0 {
		// Whoever can write there can put another file, or socket, in the place of ours.
		return nil, fmt.Errorf("%q: others may write to the folder (%s); take one of its own, such as one inside it", folder, status.Mode().Perm())
	}
	path := filepath.Join(folder, fileName)
	db, err := openDB(path)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	if err := errors.Join(db.Update(prepare), syncFolder(folder)); err != nil {
		return nil, errors.Join(fmt.Errorf("%q: %w", path, err), db.Close())
	}
	f := &File{db: db, changes: make(chan change), quit: make(chan struct{}), done: make(chan struct{})}
	go f.write()
	return f, nil
}

// Exists reports whether there is a state in folder.
func Exists(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, fileName))
	return err == nil
}

// openDB opens the file, tightens what others may do with it, and turns bbolt's panic
// about a damaged file into an error.
func openDB(path string) (db *bbolt.DB, err error) {
	defer func() {
		if damage := recover(); damage != nil {
			err = errors.New("the file is damaged")
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, ErrInUse
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("the file is damaged, or none of the issuer's: %w", err)
	case err != nil:
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// prepare makes what a new file lacks and refuses one of another format.
func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, keyBucket, tokenBucket, revocationBucket, expiryBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	switch found := string(meta.Get([]byte("format"))); found {
	case format:
		return nil
	case "":
		return meta.Put([]byte("format"), []byte(format))
	default:
		return fmt.Errorf("the file has format %q, and this program reads %q", found, format)
	}
}

// syncFolder makes the file's name durable.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close waits for what is under way.
func (f *File) Close() error {
	f.once.Do(func() {
		close(f.quit)
		<-f.done
		f.closed = f.db.Close()
	})
	return f.closed
}

// view reads in a transaction of its own, beside the writer.
func (f *File) view(read func(*bbolt.Tx) error) error {
	err := f.db.View(read)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}
