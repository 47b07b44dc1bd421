package filewatch

import (
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A Watcher reports that files may have changed. It watches folders, because a file may be a
// symbolic link that is replaced, as in a Kubernetes volume. The caller also polls the files for
// changes that the system does not report.
type Watcher struct {
	Changed chan struct{}
	watcher *fsnotify.Watcher               // nil: no notifications
	names   atomic.Pointer[map[string]bool] // names of the files, and of the targets of their links
}

// New returns a Watcher. every is the caller's poll interval, for the log line about a system
// without notifications.
func New(log *slog.Logger, every time.Duration) *Watcher {
	w := &Watcher{Changed: make(chan struct{}, 1)}
	w.names.Store(&map[string]bool{})
	var err error
	if w.watcher, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("files are not watched, only polled", "every", every.String(), "error", err)
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

// filterEvents forwards events that may concern the files, until the watcher is closed. It forwards
// writes only to a watched file, because other files in the folder may be logs. It forwards the
// creation, removal and renaming of any file, because the file may be a link on the path of a watched
// file.
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
		case _, ok := <-w.watcher.Errors: // an error means that notifications were lost
			if !ok {
				return
			}
		}
		select {
		case w.Changed <- struct{}{}:
		default: // an earlier notification is still pending
		}
	}
}

// Follow watches the folders of the given files and of the targets of their links, and no other
// folders. The caller calls Follow repeatedly, because a folder that was replaced has to be watched
// anew. Follow reports whether it added a folder. Changes in that folder before the call were not
// reported.
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
			// The system reports a folder under a single name, even if links or relative paths lead to it.
			folder, err := filepath.Abs(filepath.Dir(n))
			if err == nil {
				folder, err = filepath.EvalSymlinks(folder)
			}
			if err != nil {
				continue // the folder does not exist; polling covers its files
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
			_ = w.watcher.Remove(folder) // Remove fails if the folder is gone
		}
	}
	for folder := range folders {
		if err := w.watcher.Add(folder); err == nil {
			news = true
		}
	}
	return news
}
