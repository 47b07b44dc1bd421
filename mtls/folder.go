package mtls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
)

// makeFolder makes a folder for nobody but the owner. It refuses one that is there and
// that others may write to. Those who may read it see names; what is in it, certmagic
// makes for the owner alone.
func makeFolder(path string) error {
	status, err := os.Stat(path)
	switch {
	case err != nil:
		return os.MkdirAll(path, 0o700)
	case !status.IsDir():
		return fmt.Errorf("%q is not a folder", path)
	case status.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%q: others may write to the folder (%s); take one of its own, such as one inside it", path, status.Mode().Perm())
	}
	return nil
}

// A folder keeps accounts, certificates and keys in files. Its locks are the system's: they
// end with the process, however that ends. Those of certmagic are files with a time in
// them, of which each keeps a goroutine and a restart after a kill waits for ten seconds.
type folder struct {
	*certmagic.FileStorage

	mu    sync.Mutex
	locks map[string]*os.File
}

func newFolder(path string) *folder {
	return &folder{FileStorage: &certmagic.FileStorage{Path: path}, locks: map[string]*os.File{}}
}

// lockPoll is how often a lock is tried that another process, or another goroutine, has.
const lockPoll = 250 * time.Millisecond

// Lock takes the lock of that name, or errs when ctx ends before.
func (f *folder) Lock(ctx context.Context, name string) error {
	for {
		taken, err := f.TryLock(ctx, name)
		if taken || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// TryLock takes the lock of that name unless somebody has it.
func (f *folder) TryLock(_ context.Context, name string) (bool, error) {
	locks := filepath.Join(f.Path, "locks")
	if err := os.MkdirAll(locks, 0o700); err != nil {
		return false, err
	}
	file, err := os.OpenFile(filepath.Join(locks, certmagic.StorageKeys.Safe(name)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return false, nil
		}
		return false, fmt.Errorf("locking %q: %w", file.Name(), err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locks[name] = file
	return true, nil
}

// Unlock lets go of a lock. Its file stays: another may wait for it.
func (f *folder) Unlock(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.locks[name]
	if file == nil {
		return fmt.Errorf("the lock %q is not taken", name)
	}
	delete(f.locks, name)
	return file.Close()
}

// check returns why the folder cannot be written to, nil if it can.
func (f *folder) check() error {
	file, err := os.CreateTemp(f.Path, ".check-*")
	if err == nil {
		_, err = file.Write(make([]byte, 16<<10)) // more than a chain and its key
		err = errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	if err != nil {
		return fmt.Errorf("writing to listener.certificate.acme.storage: %w", err)
	}
	return nil
}
