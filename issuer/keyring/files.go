package keyring

import (
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/tallygate/tallygate/config"
)

// Check reads the files that signing names, and reports the first that is no key for
// its algorithm.
func Check(signing config.Signing) error {
	_, _, err := readFiles(signing)
	return err
}

// readFiles returns the keys in the files, and a hash of all contents.
func readFiles(signing config.Signing) ([]*key, [32]byte, error) {
	hash := sha256.New()
	seen := make(map[string]config.Path)
	var keys []*key
	for _, path := range signing.Files {
		content, err := os.ReadFile(string(path))
		if err != nil {
			return nil, [32]byte{}, fmt.Errorf("reading signing key: %w", err) // names the file
		}
		one := sha256.Sum256(content)
		hash.Write(one[:])
		k, err := readFile(string(path), content, signing.Algorithm)
		if err != nil {
			return nil, [32]byte{}, err
		}
		if first, ok := seen[k.id]; ok {
			return nil, [32]byte{}, fmt.Errorf("reading signing key %q: it is the one in %q", path, first)
		}
		seen[k.id] = path
		keys = append(keys, k)
	}
	return keys, [32]byte(hash.Sum(nil)), nil
}

// openFiles reads the files for the first time.
func (r *Ring) openFiles() error {
	for _, path := range r.options.Signing.Files {
		warnIfWorldReadable(string(path), r.options.Log)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reloadFiles()
}

// follow reads the files, and if they have changed lets them count. On an error the
// keys stay what they were. r.mu is held.
func (r *Ring) reloadFiles() error {
	keys, hash, err := readFiles(r.options.Signing)
	if err != nil {
		return err
	}
	before := r.current.Load()
	if before != nil && hash == r.filesHash {
		return r.dropExpired(before)
	}
	now := r.options.Now()
	present := make(map[string]bool, len(keys))
	for i, k := range keys {
		present[k.id] = true
		k.created = now
		if i == 0 {
			k.activated = now
		}
		if before != nil && before.byID[k.id] != nil {
			k.created = before.byID[k.id].created
		}
	}
	if before != nil {
		for _, k := range before.keys {
			if present[k.id] {
				continue
			}
			gone := *k // its tokens go on counting
			if gone.retired.IsZero() {
				gone.retired = now
			}
			keys = append(keys, &gone)
		}
		r.options.Log.Info("signing keys read again", "kid", keys[0].id)
		if before.byID[keys[0].id] == nil {
			// Gates that have yet to read the set refuse its tokens. At the start this
			// cannot be told: nobody knows here what was published before.
			r.options.Log.Warn("signing key was not published before it signs; let it stand behind the first for a while", "kid", keys[0].id)
		}
	}
	r.filesHash = hash
	return r.publish(r.unexpired(keys), keys[0])
}

// dropEnded publishes s without what is over.
func (r *Ring) dropExpired(s *snapshot) error {
	kept := r.unexpired(s.keys)
	if len(kept) == len(s.keys) {
		return nil
	}
	return r.publish(kept, s.active)
}
