package config

import (
	"encoding"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Fault is one fault of a configuration, with its position and path.
type Fault = strictyaml.Fault

// Faults are all faults of a configuration, in the order of the file. For faulty content, the error
// of [Load], [Parse] and [Config.Validate] has the type Faults.
type Faults = strictyaml.Faults

// Position is a position in a configuration file.
type Position = strictyaml.Position

// maxFileBytes bounds a configuration file. 100,000 applications of 200 bytes are 20 MB; the bound is
// three times as much.
const maxFileBytes = 64 << 20

// Load reads the configuration file at path over the defaults and validates the result. Relative
// paths in the file are relative to the folder of the file. Load expands, includes and fetches
// nothing, and opens none of the files that the configuration names. For faulty content the error is
// [Faults]. Any other error says why the file could not be read.
func Load(path string) (*Config, error) {
	text, dir, err := ReadText(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, dir, text)
}

// ReadText returns the content of the configuration file at path, and the folder to which relative
// paths in the file are relative. If the file is too large, the text is cut off, and [Parse] refuses
// the text.
func ReadText(path string) (text []byte, dir string, err error) {
	if text, err = readRegular(path); err != nil {
		return nil, "", fmt.Errorf("reading configuration: %w", err)
	}
	if dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, "", fmt.Errorf("finding the folder of %q: %w", path, err)
	}
	return text, dir, nil
}

// ReadTextFrom returns the same as [ReadText] for standard input. Relative paths are relative to the
// working folder.
func ReadTextFrom(r io.Reader) (text []byte, dir string, err error) {
	if text, err = io.ReadAll(io.LimitReader(r, maxFileBytes+1)); err != nil {
		return nil, "", fmt.Errorf("reading configuration: %w", err)
	}
	if dir, err = os.Getwd(); err != nil {
		return nil, "", fmt.Errorf("finding the working folder: %w", err)
	}
	return text, dir, nil
}

// readRegular returns the content of a regular file. If the file is too large, readRegular returns
// only its beginning, one byte more than [Parse] accepts, so that Parse reports the size.
func readRegular(path string) ([]byte, error) {
	// Stat is called before Open, because opening a pipe without a writer blocks for ever.
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

// Parse returns the configuration in text, with the same checks as [Load]. Positions contain name as
// the file name. Relative paths in text become relative to dir; if dir is empty, they stay unchanged.
func Parse(name, dir string, text []byte) (*Config, error) {
	c, err := Examine(name, dir, text)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Examine is [Parse] for a command that reports faults. With [Faults] it also returns the settings
// that could be decoded, so that the caller can look at the files that a faulty configuration names.
// Such a Config is not valid, and no gate may use it for decisions.
func Examine(name, dir string, text []byte) (*Config, error) {
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("reading configuration: %q is larger than %d MiB", name, maxFileBytes>>20)
	}
	c := Default()
	document, faults := strictyaml.Decode(text, c, strictyaml.Options{
		File:     name,
		Defaults: setDefaults,
		Scalar:   func(v any) { makeAbsolute(v, dir) },
		Text:     textOf,
	})
	c.source = document
	c.applyProfiles()
	return c, append(faults, c.check()...).Err()
}

// textOf returns the function that parses text into v, if another package declares the type of v.
func textOf(v any) encoding.TextUnmarshaler {
	if t, ok := v.(*access.Thumbprint); ok {
		return (*thumbprintText)(t)
	}
	return nil
}

// makeAbsolute makes the path at v absolute if v points to a setting that names a file.
func makeAbsolute(v any, dir string) {
	path, ok := v.(*Path)
	if list, isList := v.(*RevocationList); isList {
		path, ok = &list.File, true
	}
	if ok && *path != "" && dir != "" && !filepath.IsAbs(string(*path)) {
		*path = Path(filepath.Join(dir, string(*path)))
	}
}

// Position returns the position of the value at path, which is spelled as in [Fault]:
// partners.list[0].applications[1].apis[0]. If the file does not set the value, the result is the
// position of the nearest mapping or list that would contain it. If c was not read from a file, the
// result is the zero Position.
func (c *Config) Position(path string) Position { return c.source.Position(path) }
