package config

import (
	"cmp"
	"slices"
	"strings"
)

// Fault is one thing that is wrong in a configuration.
type Fault struct {
	Position
	Path    string // of the value, such as apis[0].routes[1].path; "" for the file as a whole
	Message string // a sentence; it quotes no more of the file than a name
}

// Error returns f as file:line:column: path: message, without the parts that are
// not known.
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

// Faults is everything that is wrong in a configuration, in the order of the file.
// It is the error of [Load], [Parse] and [Config.Validate] for faulty content.
type Faults []Fault

// Error returns the faults one per line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// err returns f, sorted, as an error, and nil for no faults.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return f
}
