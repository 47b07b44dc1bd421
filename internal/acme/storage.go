package acme

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openStorage creates the folder and gives access to the owner alone. If the folder exists, the folder
// and all files in it must belong to root or to the user of the gate: another user who can write or
// read a key has the key of the listener.
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

// checkOwnership returns an error if a file or folder belongs neither to root nor to user, a uid, or if
// other users may write it. A file with a key must not be readable for other users either. Other users
// may list the folder.
func checkOwnership(name string, top bool, entry fs.DirEntry, user int) error {
	about, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another gate that uses this storage deleted the file
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

// checkWritable returns an error if no file can be written to the folder at path.
func checkWritable(path string) error {
	file, err := os.CreateTemp(path, ".check-*")
	if err == nil {
		_, err = file.Write(make([]byte, 16<<10)) // 16 KiB is more than a chain and its key take
		err = errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	if err != nil {
		return fmt.Errorf("writing to listener.certificate.acme.storage: %w", err)
	}
	return nil
}
