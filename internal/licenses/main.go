// Command licenses collects the licence texts of all code that is linked into a program: the texts of
// the program itself, of its dependencies, and of Go. The image carries the texts under /licenses, as
// most licences demand for the distribution of binaries.
//
// The command takes the list of packages from go list, in the environment of the build, and the texts
// from the module cache. It uses no network. A dependency without a text is an error.
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
	if err := collect(context.Background(), flag.Arg(0), *out); err != nil {
		log.Fatal("licenses: ", err)
	}
}

// A goPackage describes a package of the program in the format of go list.
type goPackage struct {
	Dir      string
	Standard bool
	Root     string // GOROOT, for packages of the standard library
	Module   *struct{ Path, Version, Dir string }
}

// collect writes to out the licence texts of every module that is linked into the program pkg.
func collect(ctx context.Context, pkg, out string) error {
	command := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Standard,Root,Module", pkg)
	command.Stderr = os.Stderr
	list, err := command.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	found := make(map[string]bool) // by folder in out: whether the folder has a text
	for packages := json.NewDecoder(strings.NewReader(string(list))); ; {
		var p goPackage
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("decoding the output of go list: %w", err)
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

// licenceFile matches the names of files that must or should be distributed with a program.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|authors|copyright)([-._].*)?$`)

// copyTexts copies the licence texts in dir, a folder of the module at root, and in the parent folders
// up to root, and returns the number of texts. A folder below root has a text if its code was taken
// from another project.
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
			if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
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
