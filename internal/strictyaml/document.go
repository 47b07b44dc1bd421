package strictyaml

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is a position in a file. Line and Column count from 1. Both are 0 if the value does not come
// from a file.
type Position struct {
	File         string
	Line, Column int
}

// String returns p as file:line:column.
func (p Position) String() string {
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Document has the positions of the values in a decoded document, and the paths of values that could
// not be decoded. Paths have the form of [Fault.Path]: partners.list[0].applications[1].apis[0]. The
// zero Document stands for values that do not come from a file. A Document is safe for concurrent use.
type Document struct {
	file   string
	root   location
	failed map[string]bool // paths of values that could not be decoded
}

// File returns the file name that was passed to [Decode].
func (d *Document) File() string { return d.file }

// Position returns the position of the value at path. If the value is absent, it returns the position
// of the nearest mapping or list around the path. In the zero Document it returns the zero Position.
func (d *Document) Position(path string) Position {
	if d.file == "" {
		return Position{}
	}
	at, _ := d.root.find(path)
	return Position{File: d.file, Line: int(at.line), Column: int(at.column)}
}

// Has reports whether the document has a value at path.
func (d *Document) Has(path string) bool {
	_, ok := d.root.find(path)
	return ok
}

// Failed reports whether decoding failed for the value at path or for a value around it.
func (d *Document) Failed(path string) bool {
	if len(d.failed) == 0 {
		return false
	}
	for ; path != ""; path = Parent(path) {
		if d.failed[path] {
			return true
		}
	}
	return d.failed[""]
}

// Complete reports whether the value at path and all values inside it are either decoded or absent.
func (d *Document) Complete(path string) bool {
	for failed := range d.failed {
		if strings.HasPrefix(failed, path) {
			return false
		}
	}
	return !d.Failed(path)
}

// location is the position of a value, and the locations of the values inside it. A file with 100,000
// applications has about two million locations, so location has narrow numbers and no maps.
type location struct {
	line, column int32
	key          string     // the key in a mapping; "" in a list
	inside       []location // the locations of a list are in the order of their indexes
}

// find returns the location at path. If no value is at path, it returns the nearest location around
// path, and false.
func (l *location) find(path string) (*location, bool) {
	for path != "" {
		var step string
		step, path = splitPath(path)
		next := l.child(step)
		if next == nil {
			return l, false
		}
		l = next
	}
	return l, true
}

// child returns the location of the value with the given key or index inside l, or nil.
func (l *location) child(step string) *location {
	if i, err := strconv.Atoi(step); err == nil {
		if i >= len(l.inside) || l.inside[i].key != "" {
			return nil
		}
		return &l.inside[i]
	}
	for i := range l.inside {
		if l.inside[i].key == step {
			return &l.inside[i]
		}
	}
	return nil
}

// splitPath splits the first step off a path. It splits "apis[0].name" into "apis" and "[0].name", and
// "[0].name" into "0" and "name".
func splitPath(path string) (step, rest string) {
	if inner, ok := strings.CutPrefix(path, "["); ok {
		step, rest, _ = strings.Cut(inner, "]")
		return step, strings.TrimPrefix(rest, ".")
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, ""
	}
	return path[:end], strings.TrimPrefix(path[end:], ".")
}

// Key returns the path of key inside the mapping at path.
func Key(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index returns the path of the i-th element of the list at path.
func Index(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

// Parent returns the path of the mapping or list around the value at path. The root has the path "".
func Parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
