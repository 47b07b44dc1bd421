package docs_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// retiredPhrases returns the phrases that CONTRIBUTING.md retires, each with its page's line.
func retiredPhrases(t *testing.T) *regexp.Regexp {
	t.Helper()
	page, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n### Retired phrases\n")
	if !found {
		t.Fatal("CONTRIBUTING.md has no section Retired phrases")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var patterns []string
	for _, m := range regexp.MustCompile("(?m)^- `([^`]+)`").FindAllStringSubmatch(section, -1) {
		patterns = append(patterns, m[1])
	}
	if len(patterns) < 5 {
		t.Fatalf("CONTRIBUTING.md retires %d phrases, want 5 at least", len(patterns))
	}
	return regexp.MustCompile(`\b(?i:` + strings.Join(patterns, "|") + `)\b|(^|[.:] )Of [a-z]`)
}

// No page, and no comment of Go files, scripts and configurations, uses a phrase that CONTRIBUTING.md
// retires, or begins a sentence with "Of". make lint runs this test.
func TestRetiredPhrases(t *testing.T) {
	retired := retiredPhrases(t)
	for _, example := range []string{"what counts no more", "Of a connection it returns nothing", "the end. Of these it keeps one", "there are none", "for whoever asks"} {
		if !retired.MatchString(example) {
			t.Errorf("the check takes %q", example)
		}
	}
	check := func(position, text string) {
		if phrase := retired.FindString(strings.Join(strings.Fields(text), " ")); phrase != "" {
			t.Errorf("%s: %q is retired by CONTRIBUTING.md", position, phrase)
		}
	}
	sources(t, func(path string, content []byte) {
		switch filepath.Ext(path) {
		case ".go":
			files := token.NewFileSet()
			parsed, err := parser.ParseFile(files, path, content, parser.ParseComments)
			if err != nil {
				t.Errorf("parsing %s: %v", path, err)
				return
			}
			for _, group := range parsed.Comments {
				check(files.Position(group.Pos()).String(), group.Text())
			}
		case ".txtar", ".yaml", ".yml", ".sh", "": // a comment may go on in the next line
			for i, block := range comments(string(content)) {
				check(fmt.Sprintf("%s, comment %d", path, i+1), block)
			}
		case ".md":
			if path == "CONTRIBUTING.md" { // it quotes them
				return
			}
			for i, paragraph := range strings.Split(codeBlock.ReplaceAllString(string(content), ""), "\n\n") {
				check(fmt.Sprintf("%s, paragraph %d", path, i+1), paragraph)
			}
		}
	})
}

// codeBlock matches a block of code in Markdown.
var codeBlock = regexp.MustCompile("(?ms)^```.*?^```")

// comments returns the comments of a file in which a comment begins with "# ", each with all its lines.
func comments(text string) (found []string) {
	var lines []string
	for line := range strings.Lines(text + "\n") {
		if _, comment, is := strings.Cut(" "+line, " # "); is {
			lines = append(lines, comment)
			continue
		}
		if len(lines) > 0 {
			found = append(found, strings.Join(lines, " "))
		}
		lines = nil
	}
	return found
}
