package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// createFolder creates folder, to which only its owner has access, and makes the name of the folder
// durable. If the folder exists and other users may write to it, createFolder returns an error.
func createFolder(folder string) error {
	status, err := os.Stat(folder)
	switch {
	case err != nil:
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		return syncFolder(filepath.Dir(folder))
	case status.Mode().Perm()&0o022 != 0:
		// A user who can write to the folder could replace the database or the operator's socket.
		return fmt.Errorf("%q: other users may write to the folder (%s); use a folder of its own, such as a new folder inside it", folder, status.Mode().Perm())
	}
	return nil
}

// createFile creates the database under a temporary name and then links it to path. So a file at path
// is always complete, even if the process is killed during the first start or the disk is full. If
// two processes create the file at the same time, the first link is kept.
func createFile(path string) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), fileName+".new-*") // CreateTemp creates the file with mode 0600
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
	if err := errors.Join(db.Update(createBuckets), db.Close()); err != nil {
		return err
	}
	// Link is used because, unlike Rename, it never replaces the file of another process.
	if err := os.Link(temporary.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// createBuckets creates the buckets of a new file and writes the version of the file's format.
func createBuckets(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, keyBucket, tokenBucket, revocationBucket, expiryBucket, usageBucket, auditBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put([]byte("format"), []byte(format))
}

// syncFolder makes the names of the files in folder durable.
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
