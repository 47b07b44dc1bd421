package filewatch

import (
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A Watcher tells when files may have changed. Folders are watched, for a file may be a
// symbolic link to another that takes its place, as in a volume of Kubernetes; what the
// system does not tell of is found by reading the files now and then.
type Watcher struct {
	Changed chan struct{}
	watcher *fsnotify.Watcher               // nil: the system watches nothing for us
	names   atomic.Pointer[map[string]bool] // of the files, and of what they are links to
}

// New returns a watch. every is how often the files are read beside it, for the log.
func New(log *slog.Logger, every time.Duration) *Watcher {
	w := &Watcher{Changed: make(chan struct{}, 1)}
	w.names.Store(&map[string]bool{})
	var err error
	if w.watcher, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("files not watched, only read from time to time", "every", every.String(), "err", err)
		return w
	}
	go w.filterEvents()
	return w
}

func (w *Watcher) Close() {
	if w.watcher != nil {
		_ = w.watcher.Close()
	}
}

// filterEvents passes on what may concern the files, until the watcher is closed. A file that is
// written to is somebody's log as long as it is none of ours; one that comes, goes or
// changes its name may be a link on the way to ours.
func (w *Watcher) filterEvents() {
	for {
		select {
		case event, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			moved := event.Has(fsnotify.Create) || event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename)
			written := event.Has(fsnotify.Write) && (*w.names.Load())[event.Name]
			if !moved && !written {
				continue
			}
		case _, ok := <-w.watcher.Errors: // events were lost
			if !ok {
				return
			}
		}
		select {
		case w.Changed <- struct{}{}:
		default: // one is waiting
		}
	}
}

// Follow watches the folders of files, and of what they are links to, and no others. It
// is called again and again: a folder that was replaced is another. It reports whether
// there is a new one, of whose changes so far nothing is told.
func (w *Watcher) Follow(of Files) (news bool) {
	if w.watcher == nil {
		return false
	}
	names, folders := map[string]bool{}, map[string]bool{}
	for name := range of {
		resolved, err := filepath.EvalSymlinks(name)
		if err != nil {
			resolved = name
		}
		for _, n := range []string{name, resolved} {
			// The system knows a folder by one name, however many lead to it: links, and the
			// way from the working directory beside that from the root.
			folder, err := filepath.Abs(filepath.Dir(n))
			if err == nil {
				folder, err = filepath.EvalSymlinks(folder)
			}
			if err != nil {
				continue // it is not there, and the files are read all the same
			}
			names[filepath.Join(folder, filepath.Base(n))] = true
			folders[folder] = true
		}
	}
	w.names.Store(&names)
	for _, folder := range w.watcher.WatchList() {
		if folders[folder] {
			delete(folders, folder)
		} else {
			_ = w.watcher.Remove(folder) // errs when it is gone
		}
	}
	for folder := range folders {
		if err := w.watcher.Add(folder); err == nil {
			news = true
		}
	}
	return news
}
