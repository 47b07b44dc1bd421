// Command manpages writes the manual pages and the shell completions of tallygate, as they are part of
// releases: man1/tallygate.1 with a page for each command beside it, and the completions for bash, zsh and
// fish under the names by which these shells find them. The same inputs give the same files.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/cli"
)

func main() {
	log.SetFlags(0)
	out := flag.String("o", "shell", "the `folder` to write to")
	version := flag.String("version", "unknown", "the version in the pages")
	date := flag.String("date", "", "the date in the pages, as in 2026-11-30")
	flag.Parse()
	if flag.NArg() != 0 {
		log.Fatal("usage: manpages [-o FOLDER] [-version VERSION] [-date DATE]")
	}
	if err := write(*out, *version, *date); err != nil {
		log.Fatal("manpages: ", err)
	}
}

// write writes all files below dir.
func write(dir, version, date string) error {
	root := cli.Commands()
	files := make(map[string][]byte)
	addPages(files, root, version, date)
	for name, generate := range map[string]func(io.Writer) error{
		"completions/tallygate.bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"completions/_tallygate":     root.GenZshCompletion,
		"completions/tallygate.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		var b bytes.Buffer
		if err := generate(&b); err != nil {
			return fmt.Errorf("making %s: %w", name, err)
		}
		files[name] = b.Bytes()
	}
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// addPages adds the page of c, and the pages of the commands below it, to files.
func addPages(files map[string][]byte, c *cobra.Command, version, date string) {
	files["man1/"+pageName(c)+".1"] = page(c, version, date)
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			addPages(files, below, version, date)
		}
	}
}

// pageName returns the name of the page of c: tallygate-explain-token for tallygate explain token.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }
