package docs_test

import (
	"go/parser"
	"go/token"
	"os"
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

// No comment of the Go files uses a phrase that CONTRIBUTING.md retires, or begins a sentence
// with "Of". make lint runs this test.
func TestRetiredPhrases(t *testing.T) {
	retired := retiredPhrases(t)
	for _, example := range []string{"what counts no more", "Of a connection it returns nothing", "the end. Of these it keeps one"} {
		if !retired.MatchString(example) {
			t.Errorf("the check takes %q", example)
		}
	}
	sources(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, path, content, parser.ParseComments)
		if err != nil {
			t.Errorf("parsing %s: %v", path, err)
			return
		}
		for _, group := range parsed.Comments {
			text := strings.Join(strings.Fields(group.Text()), " ")
			if phrase := retired.FindString(text); phrase != "" {
				t.Errorf("%s: a comment says %q, which CONTRIBUTING.md retires", files.Position(group.Pos()), phrase)
			}
		}
	})
}
