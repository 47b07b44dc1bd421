package strictyaml

import (
	"fmt"
	"strings"
	"testing"
)

// A syntax error says the likely cure, and quotes the text that needs quotation marks.
func TestCures(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"routes:\n  - {methods: [GET], path: /a/{id}}\n", `braces inside { } or [ ] need quotation marks: write "/a/{id}"`},
		{"routes:\n  - {methods: [GET],\n     path: /a/{id}/b}\n", `write "/a/{id}/b"`},
		{"list: [/a/{id}, /b]\n", `write "/a/{id}"`},
		{"list:\n  - name: a\n    path: {id}/b\n    c: d\n", `text that begins with a brace needs quotation marks: write "{id}/b"`},
		{"a: 'it's'\n", "write ' inside single quotation marks twice"},
		{"a:\n  b: c\n d: e\n", "compare the indentation"},
		{"a: [b, c\n", "close the bracket"},
		{"hosts: [*.example.test]\n", `text that begins with * needs quotation marks: write "*.example.test"`},
		{"hosts: *.example.test\n", `write "*.example.test"`},
		{"a: @b\n", `write "@b"`},
		{"a: %b\n", `write "%b"`},
		{"a: {address: :8443}\n", `text that begins with a colon needs quotation marks: write ":8443"`},
		{"a: b: c\n", "a value with a colon and a space needs quotation marks"},
		{"a:b\nc: d\n", "put a space behind each colon"},
		{`a: "\d"` + "\n", "write each backslash twice"},
		{"a: - b\n", "begin the list on the next line"},
		{"a: \"b\nc: d\n", "a quotation mark is not closed"},
		{"a: *b\n", ""}, // an alias, whose anchor is missing
	} {
		_, faults := parse("a.yaml", []byte(tt.text))
		if len(faults) != 1 {
			t.Errorf("parse(%q): %d faults, want 1", tt.text, len(faults))
			continue
		}
		message, cure, _ := strings.Cut(faults[0].Message, "; ")
		if !strings.HasPrefix(message, "not valid YAML: ") || !strings.Contains(cure, tt.want) || tt.want == "" && cure != "" {
			t.Errorf("parse(%q): %q with the cure %q, want %q", tt.text, message, cure, tt.want)
		}
	}
}

// Braces without quotation marks are a mapping where text is expected.
func TestBraces(t *testing.T) {
	for text, want := range map[string]string{
		"name: {id}\n":     "a.yaml:1:7: name: expected text, got a mapping; text that begins with a brace needs quotation marks",
		"name:\n  id: a\n": "a.yaml:2:3: name: expected text, got a mapping",
		"name: \n  - id\n": "a.yaml:2:3: name: expected text, got a list",
		"name: \"{id}\"\n": "",
	} {
		var v struct {
			Name string `yaml:"name"`
		}
		_, faults := Decode([]byte(text), &v, Options{File: "a.yaml"})
		if got := fmt.Sprint(faults); got != want {
			t.Errorf("Decode(%q): %q, want %q", text, got, want)
		}
	}
}

// The cure for a fault in a large file is found as fast as in a small file.
func TestCureOfLargeFile(t *testing.T) {
	text := "a: 'it's'\n" + strings.Repeat("b: c\n", 1_000_000)
	if got := cureFor("did not find expected key", []byte(text), 2); got != "; compare the indentation and the quotation marks with those of the lines before" {
		t.Errorf("cureFor = %q, want the remedy without quoted text", got)
	}
	if got := len(from([]byte(text), 2)); got != farthest {
		t.Errorf("from returned %d lines, want %d", got, farthest)
	}
}
