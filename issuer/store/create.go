package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// makeFolder makes folder, for nobody but the owner, and its name durable. It refuses
// one that is there and that others may write to.
func makeFolder(folder string) error {
	status, err := os.Stat(folder)
	switch {
	case err != nil:
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		return syncFolder(filepath.Dir(folder))
	case status.Mode().Perm()&0o022 != 0:
		// Whoever can write there can put another file, or socket, in the place of ours.
		return fmt.Errorf("%q: others may write to the folder (%s); take one of its own, such as one inside it", folder, status.Mode().Perm())
	}
	return nil
}

// create makes the file under another name and then gives it its own. So what has that
// name is always whole, also where the first start is killed or the disk is full, and
// of two processes that make it at the same time one succeeds.
func create(path string) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), fileName+".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if err := temporary.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(temporary.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(prepare), db.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces the file of another process.
	if err := os.Link(temporary.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// prepare makes what there is in a new file.
func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, keyBucket, tokenBucket, revocationBucket, expiryBucket, usageBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put([]byte("format"), []byte(format))
}

// syncFolder makes the names in folder durable.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing %q: %w", folder, err)
	}
	return nil
}
