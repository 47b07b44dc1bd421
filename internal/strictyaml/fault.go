package strictyaml

import (
	"cmp"
	"slices"
	"strings"
)

// Fault is one fault of a file, or of values that do not come from a file.
type Fault struct {
	Position
	Path    string // path of the value, such as apis[0].routes[1].path; "" for the file as a whole
	Message string // a sentence on one line, which quotes at most a name from the file
}

// Error returns f as file:line:column: path: message. It omits unknown parts.
func (f Fault) Error() string {
	var b strings.Builder
	if f.Line > 0 {
		b.WriteString(f.Position.String() + ": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	return b.String() + f.Message
}

// Faults are all faults of a file.
type Faults []Fault

// Error returns the faults, one on each line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Err returns f as an error, sorted by position, or nil if there are no faults.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return f
}
