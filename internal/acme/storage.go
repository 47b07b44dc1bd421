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

// openFolder makes a folder for nobody but the owner. One that is there must be ours with
// all that is in it: whoever put a key there, can read it or put another in its place has
// the key that is shown to partners.
func openFolder(path string) error {
	if _, err := os.Stat(path); err != nil {
		return os.MkdirAll(path, 0o700)
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = checkOurs(name, name == path, entry, os.Geteuid())
		}
		if name != path && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)) {
			return fs.SkipDir // root's lost+found, or what another gate deletes: nothing is taken from there
		}
		return err
	})
}

// checkOurs returns nil for a file or folder that belongs to the user, by number, or to
// root, that nobody else may write to and, where it is a key, nobody else may read. The
// names of others are no secret.
func checkOurs(name string, top bool, entry fs.DirEntry, user int) error {
	about, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another gate with this storage is at work
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
