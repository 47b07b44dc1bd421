package keyring

import (
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/tallygate/tallygate/config"
)

// Check reads the key files that signing names and returns the first error: a file cannot be read, or
// its key does not suit the algorithm.
func Check(signing config.Signing) error {
	_, _, err := readFiles(signing)
	return err
}

// readFiles returns the keys in the files of signing, and one hash of the contents of all files.
func readFiles(signing config.Signing) ([]*key, [32]byte, error) {
	hash := sha256.New()
	seen := make(map[string]config.Path)
	var keys []*key
	for _, path := range signing.Files {
		content, err := os.ReadFile(string(path))
		if err != nil {
			return nil, [32]byte{}, fmt.Errorf("reading signing key: %w", err) // err already names the file
		}
		one := sha256.Sum256(content)
		hash.Write(one[:])
		k, err := parseFile(string(path), content, signing.Algorithm)
		if err != nil {
			return nil, [32]byte{}, err
		}
		if first, ok := seen[k.id]; ok {
			return nil, [32]byte{}, fmt.Errorf("reading signing key %q: the same key is in %q", path, first)
		}
		seen[k.id] = path
		keys = append(keys, k)
	}
	return keys, [32]byte(hash.Sum(nil)), nil
}

// openFiles reads the files when the ring is opened.
func (r *Ring) openFiles() error {
	for _, path := range r.options.Signing.Files {
		warnIfWorldReadable(string(path), r.options.Log)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reloadFiles()
}

// reloadFiles reads the files and publishes their keys if the keys have changed. With an error the
// published keys stay unchanged. r.mu must be held.
func (r *Ring) reloadFiles() error {
	keys, hash, err := readFiles(r.options.Signing)
	if err != nil {
		return err
	}
	previous := r.current.Load()
	if previous != nil && hash == r.filesHash {
		return r.dropExpired(previous)
	}
	now := r.options.Now()
	present := make(map[string]bool, len(keys))
	for i, k := range keys {
		present[k.id] = true
		k.created = now
		if i == 0 {
			k.activated = now
		}
		if previous != nil && previous.byID[k.id] != nil {
			k.created = previous.byID[k.id].created
		}
	}
	if previous != nil {
		for _, k := range previous.keys {
			if present[k.id] {
				continue
			}
			removed := *k // removed stays published, because tokens that it signed stay valid
			if removed.retired.IsZero() {
				removed.retired = now
			}
			keys = append(keys, &removed)
		}
		r.options.Log.Info("signing key files reloaded", "kid", keys[0].id)
		if previous.byID[keys[0].id] == nil {
			// Gates that have not fetched the new key set refuse tokens of the new key. At the start
			// there is no warning, because the previously published set is unknown.
			r.options.Log.Warn("signing key signs without having been published before; list a new key second for a while, then first", "kid", keys[0].id)
		}
	}
	r.filesHash = hash
	return r.publish(r.unexpired(keys), keys[0])
}

// dropExpired publishes the keys of s that have not expired.
func (r *Ring) dropExpired(s *snapshot) error {
	kept := r.unexpired(s.keys)
	if len(kept) == len(s.keys) {
		return nil
	}
	return r.publish(kept, s.active)
}
