package docs_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/explain"
)

// TestAdvice compares the section "What to do" of reasons.md with the advice that explain gives. Run it
// with -update after a change of the advice. Each row has an anchor, to which explain links.
func TestAdvice(t *testing.T) {
	var table strings.Builder
	table.WriteString("| reason, `failure` or `terminated_by` | usually the fault of | what to do |\n| --- | --- | --- |\n")
	all := explain.AllAdvice()
	for _, a := range all {
		if a.Fault == "" || a.Do == "" {
			t.Errorf("%s has no advice", a.Label)
		}
		fmt.Fprintf(&table, "| <a id=\"%[1]s\"></a>%[1]s | %[2]s | %[3]s |\n", a.Label, a.Fault, a.Do)
	}
	page, err := os.ReadFile("reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)(<!-- Made from internal/explain/advice.go [^\n]*-->\n\n)(.*?)(\n?<!-- end -->)`)
	found := section.FindSubmatchIndex(page)
	if found == nil {
		t.Fatal("reasons.md has no section for the advice")
	}
	if got := string(page[found[4]:found[5]]); got != table.String() && *update {
		content := string(page[:found[3]]) + table.String() + "\n<!-- end -->" + string(page[found[1]:])
		if err := os.WriteFile("reasons.md", []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != table.String() {
		t.Error("reasons.md differs from internal/explain/advice.go; run: go test ./docs -run TestAdvice -update")
	}

	// The failures and terminations that the page names all have advice.
	_, rest, _ := strings.Cut(string(page), "## Granted, then failed")
	labels := regexp.MustCompile("`((?:upstream|client|body)_[a-z_]+|stopping)`").FindAllStringSubmatch(rest, -1)
	if len(labels) < 10 {
		t.Errorf("reasons.md names %d failures and terminations, want at least 10", len(labels))
	}
	for _, m := range labels {
		_, failure := explain.FailureAdvice(m[1])
		if _, termination := explain.TerminationAdvice(m[1]); !failure && !termination && m[1] != "body_bytes" {
			t.Errorf("%s, which reasons.md names, has no advice", m[1])
		}
	}
}
