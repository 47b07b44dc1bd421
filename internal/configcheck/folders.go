package configcheck

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// writable is W_OK and X_OK of access(2).
const writable = 2 | 1

// folders warns of folders to which the gate could not write revocations. Such a folder is no fault of the
// configuration, because check may run as another user, or on another machine, than the gate.
func (e *examiner) folders() {
	if r := e.cfg.Revocations; r != nil {
		e.folder("revocations.state", r.State)
	}
	for i := range e.cfg.AuthorizationServers {
		if events := e.cfg.AuthorizationServers[i].SecurityEvents; events != nil {
			e.folder(strictyaml.Index("authorization_servers", i)+".security_events.state", events.State)
		}
	}
}

// folder examines a folder that the gate writes to. The gate makes the folder if it does not exist, so folder examines
// the nearest existing folder above it.
func (e *examiner) folder(path string, folder config.Path) {
	if folder == "" {
		return
	}
	existing := filepath.Clean(string(folder))
	about, err := os.Stat(existing)
	for errors.Is(err, fs.ErrNotExist) && existing != filepath.Dir(existing) {
		existing = filepath.Dir(existing)
		about, err = os.Stat(existing)
	}
	switch {
	case err != nil:
		e.warn(path, "the gate cannot keep revocations there: %s", err)
	case !about.IsDir():
		e.warn(path, "the gate cannot keep revocations there: %s is not a folder", existing)
	case syscall.Access(existing, writable) != nil && existing == filepath.Clean(string(folder)):
		e.warn(path, "the user of this command cannot write there; the gate's user must")
	case syscall.Access(existing, writable) != nil:
		e.warn(path, "the folder does not exist, and the user of this command cannot make it in %s; the gate's user must", existing)
	}
}
