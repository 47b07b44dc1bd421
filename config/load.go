package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
)

// maxFileBytes bounds a configuration file: 100,000 applications of 200 bytes are
// 20 MB; three times that.
const maxFileBytes = 64 << 20

// Load returns the configuration that the file at path describes, over the
// defaults and judged by [Config.Validate]. Relative paths in it are relative to
// its folder. The error is [Faults], all there are, for faulty content; any other
// error says why the file could not be read. Nothing is expanded, included or
// fetched, and none of the files that it names is opened.
func Load(path string) (*Config, error) {
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("finding the folder of %q: %w", path, err)
	}
	return Parse(path, dir, text)
}

// read returns the content of a regular file. It reads one byte more than Parse
// takes, so that Parse says what is too much.
func read(path string) ([]byte, error) {
	// Before it is opened: opening a pipe that nobody writes to never returns.
	switch about, err := os.Stat(path); {
	case err != nil:
		return nil, err
	case about.IsDir():
		return nil, fmt.Errorf("%q is a folder", path)
	case !about.Mode().IsRegular():
		return nil, fmt.Errorf("%q is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// Parse returns the configuration that text describes, as [Load] does for a file.
// name is what positions call the file; dir is what relative paths are made
// relative to, or "" to leave them as they are.
func Parse(name, dir string, text []byte) (*Config, error) {
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("reading configuration: %q is larger than %d MiB", name, maxFileBytes>>20)
	}
	root, faults := parse(name, text)
	if faults != nil {
		return nil, faults.err()
	}
	d := decoder{
		file:    name,
		dir:     dir,
		failed:  make(map[string]bool),
		refused: make(map[*node]bool),
		keys:    make(map[reflect.Type][]string),
	}
	d.inspect(root, nil)
	c := Default()
	c.source = source{file: name, root: d.decode(root, reflect.ValueOf(c).Elem())}
	if d.stopped {
		return nil, d.faults.err()
	}
	if err := append(d.faults, c.check(d.failed)...).err(); err != nil {
		return nil, err
	}
	return c, nil
}
