package kubelettest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
)

// generation numbers the folders with the contents of a volume.
var generation atomic.Int64

// publish writes the files of a Secret or ConfigMap into the folder of a volume as the kubelet does: into a new
// folder, to which the symbolic link ..data then leads by a rename. The file names are links through
// ..data, so that all files change at one moment.
func publish(volume string, files map[string][]byte) error {
	next := fmt.Sprintf("..%d", generation.Add(1))
	if err := os.MkdirAll(filepath.Join(volume, next), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(volume, next, name), content, 0o444); err != nil {
			return err
		}
	}
	data, temporary := filepath.Join(volume, "..data"), filepath.Join(volume, "..data_tmp")
	old, err := os.Readlink(data)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := errors.Join(os.Symlink(next, temporary), os.Rename(temporary, data)); err != nil {
		return err
	}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(volume, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(volume, old))
}
