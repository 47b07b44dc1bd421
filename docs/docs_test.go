// Package docs_test compares the pages in this folder with the tree.
package docs_test

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = ".."

// threatID matches the id of a line of the threat model.
var threatID = regexp.MustCompile(`\bT-[A-Z0-9]+-[0-9]{2}\b`)

// skippedFolders are not part of the source tree.
var skippedFolders = []string{".git", ".tools", "dist", "node_modules"}

// sources calls visit with the slash-separated path, relative to the root, and the content of
// each file of the tree that is at most 1 MiB long; longer files are data.
func sources(t *testing.T, visit func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains(skippedFolders, entry.Name()) {
			return filepath.SkipDir
		}
		about, err := entry.Info()
		if err != nil || !about.Mode().IsRegular() || about.Size() > 1<<20 {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		visit(filepath.ToSlash(relative), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// threats returns the last column of each line of the threat model by the line's id.
func threats(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		id, isRow := strings.CutPrefix(cells[0], "| ")
		if !isRow || !threatID.MatchString(id) {
			continue
		}
		if len(cells) != 3 {
			t.Errorf("%s: got %d cells, want 3", id, len(cells))
			continue
		}
		if _, known := shown[id]; known {
			t.Errorf("%s has two lines", id)
		}
		shown[id] = strings.TrimSuffix(cells[2], " |")
	}
	if len(shown) < 200 { // the first version of the page had 260
		t.Fatalf("the threat model has %d lines, want at least 200", len(shown))
	}
	return shown
}

// Every threat id that a file of the tree quotes has a line in the threat model.
func TestThreatsQuoted(t *testing.T) {
	shown := threats(t)
	unknown := map[string]string{} // id: a file that quotes it
	sources(t, func(path string, content []byte) {
		for _, id := range threatID.FindAll(content, -1) {
			if _, ok := shown[string(id)]; !ok {
				unknown[string(id)] = path
			}
		}
	})
	for _, id := range slices.Sorted(maps.Keys(unknown)) {
		t.Errorf("%s is quoted in %s and has no line in threat-model.md", id, unknown[id])
	}
}

// Every test and script that the threat model names exists, and a line without a test says that it has no test.
func TestThreatsShown(t *testing.T) {
	exists := tests(t)
	sources(t, func(path string, _ []byte) {
		if name, isScript := strings.CutPrefix(path, "cmd/tallygate/testdata/"); isScript {
			exists[strings.TrimSuffix(name, ".txtar")] = true
		}
	})
	shown := threats(t)
	for _, id := range slices.Sorted(maps.Keys(shown)) {
		spans := span.FindAllStringSubmatch(shown[id], -1)
		if strings.HasPrefix(shown[id], "No test") {
			continue
		}
		if len(spans) == 0 {
			t.Errorf("%s names no test and does not begin with \"No test\": %q", id, shown[id])
		}
		for _, m := range spans {
			if !exists[m[1]] {
				t.Errorf("%s names %s, which does not exist", id, m[1])
			}
		}
	}
}

// Each case of stdlib-assumptions.md names a test TestAssumes…, and the page names all such tests.
func TestAssumptions(t *testing.T) {
	page, err := os.ReadFile("stdlib-assumptions.md")
	if err != nil {
		t.Fatal(err)
	}
	assumes := regexp.MustCompile("`(TestAssumes[A-Z]\\w+)`")
	named, cases := map[string]bool{}, 0
	for line := range strings.Lines(string(page)) {
		if !regexp.MustCompile(`^\| \d+ \|`).MatchString(line) {
			continue
		}
		cases++
		found := assumes.FindAllStringSubmatch(line, -1)
		if len(found) == 0 {
			t.Errorf("a case names no test TestAssumes…: %s", line)
		}
		for _, m := range found {
			named[m[1]] = true
		}
	}
	if cases < 5 {
		t.Errorf("stdlib-assumptions.md has %d cases, want at least 5", cases)
	}
	for name := range tests(t) { // TestNamesExist checks the other direction
		if name = name[strings.LastIndex(name, ".")+1:]; strings.HasPrefix(name, "TestAssumes") && !named[name] {
			t.Errorf("%s is in no case of stdlib-assumptions.md", name)
		}
	}
}

// span matches a code span of Markdown.
var span = regexp.MustCompile("`([^`\n]+)`")

// tests returns the names of the tests of the tree. Tests outside of package main have the name of
// their package and a dot before the name.
func tests(t *testing.T) map[string]bool {
	exists := map[string]bool{}
	packageName := regexp.MustCompile(`(?m)^package (\w+?)(?:_test)?$`)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	sources(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		qualifier := ""
		if name := packageName.FindSubmatch(content); name != nil && !bytes.Equal(name[1], []byte("main")) {
			qualifier = string(name[1]) + "."
		}
		for _, m := range function.FindAllSubmatch(content, -1) {
			exists[qualifier+string(m[1])] = true
		}
	})
	return exists
}

// In the pages about the code, each code span that looks like a test, a Go function with
// parentheses behind it, or a path with a slash in it, names something that exists.
func TestNamesExist(t *testing.T) {
	declared, paths := map[string]bool{}, map[string]bool{}
	for name := range tests(t) {
		declared[name] = true // as pages write it: package main's tests alone, or with the package
		declared[name[strings.LastIndex(name, ".")+1:]] = true
	}
	function := regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?(\w+)[(\[]`)
	sources(t, func(path string, content []byte) {
		for ; path != "."; path = filepath.ToSlash(filepath.Dir(path)) {
			paths[path] = true
			paths[path+"/"] = true
		}
		for _, m := range function.FindAllSubmatch(content, -1) {
			declared[string(m[1])] = true
		}
	})
	isTest := regexp.MustCompile(`^(?:\w+\.)?(?:Test|Fuzz|Benchmark)[A-Z]\w*$`)
	isFunction := regexp.MustCompile(`^(?:\w+\.)*(\w+)\(\)$`)
	isPath := regexp.MustCompile(`^[a-z][\w.-]*/[\w./-]*$`)
	check := func(page, name string) {
		switch function := isFunction.FindStringSubmatch(name); {
		case isTest.MatchString(name) && !declared[name], function != nil && !declared[function[1]]:
			t.Errorf("%s names %s, which no Go file declares", page, name)
		case isPath.MatchString(name) && slices.Contains(folders, name[:strings.Index(name, "/")]) && !paths[name]:
			t.Errorf("%s names %s, which does not exist", page, name)
		}
	}
	pages := []string{
		"architecture.md", "logs.md", "metrics.md", "issuer.md", "not-defended.md", "operations.md", "public-api.md", "reasons.md", "runbooks.md", "stdlib-assumptions.md", "threat-model.md", "update-policy.md",
		"../CONTRIBUTING.md", "../RELEASING.md",
	}
	decisions, err := filepath.Glob("adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	recipes, err := filepath.Glob("servers/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range slices.Concat(pages, decisions, recipes) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		if bytes.Contains(content, []byte("\nStatus: replaced by ")) { // a replaced decision is about code that is gone
			continue
		}
		for _, m := range span.FindAllSubmatch(content, -1) {
			check(page, string(m[1]))
		}
	}
}

// folders are those at the root whose paths the pages name.
var folders = []string{
	"access", "bench", "charts", "cmd", "config", "deploy", "docs", "internal", "introspect", "issuer",
	"mtls", "policy", "proxy", "releases", "validate",
}

// Each block of commands in README.md and the quick start runs in a test in bash and in zsh (TestREADME,
// TestQuickStart), or consists of commands that make test or CI runs.
func TestCommandsTested(t *testing.T) {
	elsewhere := map[string]string{ // a command, and the file that has it
		"go run ./cmd/tallygate demo": "../Makefile", // tour
		"make test":                   "../.ci/run",
		"make build":                  "../.ci/run",
	}
	for _, page := range []string{"../README.md", "quick-start.md"} {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)([^\n]*)\n```sh\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
			if strings.HasPrefix(m[1], "<!-- tested") {
				continue
			}
			for line := range strings.Lines(m[2]) {
				command, _, _ := strings.Cut(line, "#")
				command = strings.TrimSpace(command)
				file := elsewhere[command]
				if file == "" {
					t.Errorf("%s: %q runs in no test: mark its block as tested", page, command)
					continue
				}
				if runs, err := os.ReadFile(file); err != nil || !strings.Contains(string(runs), command) {
					t.Errorf("%s: %s does not run %q (%v)", page, file, command, err)
				}
			}
		}
	}
}

// README.md and SECURITY.md stay short: longer text belongs on a page in this folder.
func TestShortPages(t *testing.T) {
	for page, most := range map[string]int{"../README.md": 200, "../SECURITY.md": 80} {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(content, []byte("\n")); lines > most {
			t.Errorf("%s has %d lines, want at most %d", page, lines, most)
		}
	}
}
