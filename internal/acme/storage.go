package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
)

// openStorage creates the folder with access for its owner alone. An existing folder and all files in it
// must belong to the user of the gate or root: another user who can write or read a key has the key of
// the listener.
func openStorage(path string) error {
	if _, err := os.Stat(path); err != nil {
		return os.MkdirAll(path, 0o700)
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = checkOwnership(name, name == path, entry, os.Geteuid())
		}
		if name != path && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)) {
			return fs.SkipDir // an unreadable folder such as lost+found, or a file that another gate deletes: certmagic reads neither
		}
		return err
	})
}

// checkOwnership returns nil for a file or folder that belongs to user, a uid, or to root, that no other
// user may write and, if it is a key, no other user may read. Other users may list the folder.
func checkOwnership(name string, top bool, entry fs.DirEntry, user int) error {
	about, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another gate with this storage deleted it
	}
	if err != nil {
		return err
	}
	status, ok := about.Sys().(*syscall.Stat_t)
	mode := about.Mode()
	switch {
	case top && !mode.IsDir():
		return fmt.Errorf("%q is not a folder", name)
	case !mode.IsDir() && !mode.IsRegular():
		return fmt.Errorf("%q is neither a file nor a folder", name)
	case !ok || status.Uid != 0 && int(status.Uid) != user:
		return fmt.Errorf("%q belongs to neither root nor the user who runs the gate (%d)", name, user)
	case mode.Perm()&0o022 != 0 && top:
		return fmt.Errorf("%q: others may write to the folder (%s); take one of its own, such as one inside it", name, mode.Perm())
	case mode.Perm()&0o022 != 0:
		return fmt.Errorf("%q: others may write to it (%s)", name, mode.Perm())
	case filepath.Ext(name) == ".key" && mode.Perm()&0o077 != 0 && mode.IsRegular():
		return fmt.Errorf("%q: others may read the key (%s)", name, mode.Perm())
	}
	return nil
}

// A fileStorage stores accounts, certificates and keys in files. Its locks are flock(2) locks, which end
// with the process. The locks of certmagic are files with a time: each needs a goroutine, and a restart
// after a kill waits ten seconds for them.
type fileStorage struct {
	*certmagic.FileStorage

	mu    sync.Mutex
	locks map[string]*os.File
}

func newStorage(path string) *fileStorage {
	return &fileStorage{FileStorage: &certmagic.FileStorage{Path: path}, locks: map[string]*os.File{}}
}

// lockPoll is the interval of attempts to take a lock that another process or goroutine has.
const lockPoll = 250 * time.Millisecond

// Lock takes the lock, or returns an error if ctx ends earlier.
func (f *fileStorage) Lock(ctx context.Context, name string) error {
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

// TryLock takes the lock if it is free, and reports whether it was.
func (f *fileStorage) TryLock(_ context.Context, name string) (bool, error) {
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

// Unlock releases the lock. The lock file stays, because others may have opened it.
func (f *fileStorage) Unlock(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.locks[name]
	if file == nil {
		return fmt.Errorf("lock %q is not held", name)
	}
	delete(f.locks, name)
	return file.Close()
}

// checkWritable returns an error if no file can be written to the folder.
func (f *fileStorage) checkWritable() error {
	file, err := os.CreateTemp(f.Path, ".check-*")
	if err == nil {
		_, err = file.Write(make([]byte, 16<<10)) // 16 KiB is more than a chain and its key take
		err = errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	if err != nil {
		return fmt.Errorf("writing to listener.certificate.acme.storage: %w", err)
	}
	return nil
}
