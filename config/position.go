package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is a place in a configuration file. Line and Column count from 1; they
// are 0 for a value that no file set.
type Position struct {
	File         string
	Line, Column int
}

// String returns p as file:line:column.
func (p Position) String() string {
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Position returns where the value at path stood in the file, path being spelled
// as faults spell it: partners.list[0].applications[1].apis[0]. For a value that
// the file does not mention it is the place of the nearest mapping or list around
// it, and for a tree that was not loaded from a file the zero Position.
func (c *Config) Position(path string) Position {
	if c.source.file == "" {
		return Position{}
	}
	at, _ := c.source.root.find(path)
	return Position{File: c.source.file, Line: int(at.line), Column: int(at.column)}
}

// source is the file that a tree was decoded from.
type source struct {
	file string
	root place
}

// place is where one value stood, and the values inside it. A file of 100,000
// applications has some two million, hence the narrow numbers and no maps.
type place struct {
	line, column int32
	key          string  // of a mapping's value; "" in a list
	inside       []place // a list's in order
}

// find returns the place at path, or the nearest one around it and false.
func (p *place) find(path string) (*place, bool) {
	for path != "" {
		var step string
		step, path = cutStep(path)
		next := p.step(step)
		if next == nil {
			return p, false
		}
		p = next
	}
	return p, true
}

// step returns what a mapping's key or a list's index names inside p, or nil.
func (p *place) step(name string) *place {
	if i, err := strconv.Atoi(name); err == nil {
		if i >= len(p.inside) || p.inside[i].key != "" {
			return nil
		}
		return &p.inside[i]
	}
	for i := range p.inside {
		if p.inside[i].key == name {
			return &p.inside[i]
		}
	}
	return nil
}

// cutStep splits the first step off a path: "apis[0].name" into "apis" and
// "[0].name", "[0].name" into "0" and "name".
func cutStep(path string) (step, rest string) {
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

// child returns the path of key inside the value at path.
func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// element returns the path of the i-th element of the list at path.
func element(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

// parent returns the path of the value around the one at path, and "" for the root.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
