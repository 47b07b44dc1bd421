// Command licenses gathers the licence texts of everything that is linked into a program:
// its own, those of its dependencies and Go's. The image carries them under /licenses, which
// most of the licences ask for where binaries are distributed.
//
// It asks go list what is linked, under the same environment as the build, and takes the
// texts from the module cache. Nothing is looked up on the network, and a dependency without
// a text is an error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	log.SetFlags(0)
	out := flag.String("o", "licenses", "the `folder` to write to, one folder in it for each module")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: licenses [-o FOLDER] PACKAGE")
	}
	if err := gather(context.Background(), flag.Arg(0), *out); err != nil {
		log.Fatal("licenses: ", err)
	}
}

// A linked is a package in the program, as go list prints it.
type linked struct {
	Dir      string
	Standard bool
	Root     string // GOROOT, of a package of the standard library
	Module   *struct{ Path, Version, Dir string }
}

// gather writes the texts of every module that is linked into the program pkg.
func gather(ctx context.Context, pkg, out string) error {
	command := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Standard,Root,Module", pkg)
	command.Stderr = os.Stderr
	list, err := command.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	found := make(map[string]bool) // by folder in out
	for packages := json.NewDecoder(strings.NewReader(string(list))); ; {
		var p linked
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("reading what go list prints: %w", err)
		}
		name, root, from := "go", p.Root, p.Root
		if !p.Standard {
			name, root, from = p.Module.Path, p.Module.Dir, p.Dir
			if p.Module.Version != "" {
				name += "@" + p.Module.Version
			}
		}
		into := filepath.Join(out, filepath.FromSlash(name))
		n, err := copyTexts(root, from, into)
		if err != nil {
			return err
		}
		found[into] = found[into] || n > 0
	}
	var missing []error
	for into, ok := range found {
		if !ok {
			missing = append(missing, fmt.Errorf("no licence text for %s", into))
		}
	}
	return errors.Join(missing...)
}

// text matches the names of files that must or should go with a program.
var text = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|authors|copyright)([-._].*)?$`)

// copyTexts copies the texts in dir, a folder of the module in root, and in the folders
// above it, and returns how many there are. Code taken over from elsewhere has a text of its
// own beside it.
func copyTexts(root, dir, into string) (n int, err error) {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return n, err
		}
		inside, err := filepath.Rel(root, dir)
		if err != nil || strings.HasPrefix(inside, "..") {
			return n, fmt.Errorf("%s is not in %s", dir, root)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !text.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return n, err
			}
			to := filepath.Join(into, inside, e.Name())
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, 0o644)); err != nil {
				return n, err
			}
			n++
		}
		if inside == "." {
			return n, nil
		}
		dir = filepath.Dir(dir)
	}
}
