package chart_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the tables of the chart's README")

// The README shows the chart that the tests render, and its tables are made of the files that they describe.
func TestREADME(t *testing.T) {
	content, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("testdata/accounts/templates/accounts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	if !strings.Contains(page, "```yaml\n"+string(example)+"```\n") {
		t.Error("the README's example is not testdata/accounts")
	}
	want := withTable(t, page, "values", valuesTable(t))
	want = withTable(t, want, "alerts", alertsTable(t))
	switch {
	case want == page:
	case *update:
		if err := os.WriteFile(chart+"/README.md", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("the tables of the README are out of date: go test -run TestREADME -update")
	}
}

// withTable puts the table between the marks of its name.
func withTable(t *testing.T, page, name, table string) string {
	t.Helper()
	before, rest, ok1 := strings.Cut(page, "<!-- "+name+" -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- end -->\n")
	if !ok1 || !ok2 {
		t.Fatalf("the README has no marks for the table of %s", name)
	}
	return before + "<!-- " + name + " -->\n" + table + "<!-- end -->\n" + after
}

// valuesTable has a row for each value. A map in block style is a section with rows of its own; every
// other value has a comment that says what it does.
func valuesTable(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	rows.WriteString("| value | default | what it does |\n| --- | --- | --- |\n")
	var add func(prefix string, mapping *yaml.Node)
	add = func(prefix string, mapping *yaml.Node) {
		for i := 0; i < len(mapping.Content); i += 2 {
			key, value := mapping.Content[i], mapping.Content[i+1]
			words := words(key.HeadComment + " " + key.LineComment + " " + value.LineComment)
			section := value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0
			if !section || words != "" {
				fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", prefix+key.Value, defaultOf(t, value, section), words)
			}
			if words == "" && !section {
				t.Errorf("%s%s has no comment", prefix, key.Value)
			}
			if section {
				add(prefix+key.Value+".", value)
			}
		}
	}
	add("", document.Content[0])
	return rows.String()
}

// words returns a comment as the text of a cell. Text after a blank line belongs to the key; text before
// one is about the file.
func words(comment string) string {
	paragraphs := strings.Split(comment, "\n\n")
	text := regexp.MustCompile(`(?m)^\s*# ?|\s# `).ReplaceAllString(paragraphs[len(paragraphs)-1], " ")
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

func defaultOf(t *testing.T, value *yaml.Node, section bool) string {
	t.Helper()
	if section {
		return ""
	}
	plain := *value
	plain.HeadComment, plain.LineComment, plain.FootComment = "", "", ""
	out, err := yaml.Marshal(&plain)
	if err != nil {
		t.Fatal(err)
	}
	return "`" + strings.Join(strings.Fields(string(out)), " ") + "`"
}

// alertsTable has a row for each alert of the rules, with what prometheusRule.rules can change.
func alertsTable(t *testing.T) string {
	t.Helper()
	var rows strings.Builder
	rows.WriteString("| alert | severity | for | threshold |\n| --- | --- | --- | --- |\n")
	for _, alert := range alertsOf(rulesFile(t)) {
		threshold := "–"
		if m := thresholdMark.FindStringSubmatch(alert.Expr); m != nil {
			threshold = "`" + m[1] + "`"
		}
		wait := alert.For
		if wait == "" {
			wait = "–"
		}
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", alert.Alert, alert.Labels["severity"], wait, threshold)
	}
	return rows.String()
}
