package yamledit

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// at returns the value at a path of keys, and of indexes written as 0, 1, ….
func at(t *testing.T, n *yaml.Node, path ...string) *yaml.Node {
	t.Helper()
	for _, step := range path {
		if n.Kind == yaml.SequenceNode {
			n = n.Content[int(step[0]-'0')]
			continue
		}
		if _, n = Get(n, step); n == nil {
			t.Fatalf("no key %q", step)
		}
	}
	return n
}

func value(t *testing.T, text string) *yaml.Node {
	t.Helper()
	n, err := Value(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEdits: an edit changes its own lines, or its own place in a flow list or mapping, and its inverse gives
// the text back.
func TestEdits(t *testing.T) {
	add := func(key, text string, path ...string) func(*testing.T, *Document) error {
		return func(t *testing.T, d *Document) error { return d.Add(at(t, d.Root(), path...), key, value(t, text)) }
	}
	appended := func(text string, path ...string) func(*testing.T, *Document) error {
		return func(t *testing.T, d *Document) error { return d.Append(at(t, d.Root(), path...), value(t, text)) }
	}
	removeKey := func(key string, path ...string) func(*testing.T, *Document) error {
		return func(t *testing.T, d *Document) error { return d.RemoveKey(at(t, d.Root(), path...), key) }
	}
	removeItem := func(i int, path ...string) func(*testing.T, *Document) error {
		return func(t *testing.T, d *Document) error { return d.RemoveItem(at(t, d.Root(), path...), i) }
	}
	replace := func(text string, path ...string) func(*testing.T, *Document) error {
		return func(t *testing.T, d *Document) error { return d.Replace(at(t, d.Root(), path...), text) }
	}
	for name, c := range map[string]struct {
		text, want    string
		edit, inverse func(*testing.T, *Document) error
	}{
		"key behind a comment": {
			"a:\n  b: c # one\n  # two\nd: e\n", "a:\n  b: c # one\n  f: 1\n  # two\nd: e\n",
			add("f", "1", "a"), removeKey("f", "a"),
		},
		"key behind a block scalar": {
			"a:\n  b: |\n    # text\n\n    more\n\nd: e\n", "a:\n  b: |\n    # text\n\n    more\n  f: 1\n\nd: e\n",
			add("f", "1", "a"), removeKey("f", "a"),
		},
		"key behind a block scalar that keeps its empty lines": {
			"a:\n  b: |+\n    text\n\nd: e\n", "a:\n  b: |+\n    text\n\n  f: 1\nd: e\n",
			add("f", "1", "a"), removeKey("f", "a"),
		},
		"key behind several lines of plain text": {
			"a:\n  b: some\n    more\n\n    text # end\nd: \"x\n  y\"\n", "a:\n  b: some\n    more\n\n    text # end\n  f: 1\nd: \"x\n  y\"\n",
			add("f", "1", "a"), removeKey("f", "a"),
		},
		"key behind quoted text": {
			"a: {b: 'it''s }', c: \"\\\"}\"}\n", "a: {b: 'it''s }', c: \"\\\"}\", \"f\": {\"g\": [1]}}\n",
			add("f", "g: [1]", "a"), removeKey("f", "a"),
		},
		"key behind an empty value": {"a:\nb:\n", "a:\nb:\nf: 1\n", add("f", "1"), removeKey("f")},
		"key in an empty mapping":   {"a: {} # none\n", "a: {\"f\": \"x\"} # none\n", add("f", "x", "a"), removeKey("f", "a")},
		"key without a last line break": {
			"a:\n  b: c", "a:\n  b: c\n  f:\n    g: 1", add("f", "g: 1", "a"), removeKey("f", "a"),
		},
		"key behind a tag and an anchor": {"a: !!str &x b\n", "a: !!str &x b\nf: 1\n", add("f", "1"), removeKey("f")},
		"Windows line breaks":            {"a:\r\n  b: c\r\nd: e\r\n", "a:\r\n  b: c\r\n  f:\r\n    g: 1\r\nd: e\r\n", add("f", "g: 1", "a"), removeKey("f", "a")},
		"item at the column of its key": {
			"a:\n- b\n# c\nd: e\n", "a:\n- b\n- f:\n  - 1\n# c\nd: e\n", appended("f:\n- 1", "a"), removeItem(1, "a"),
		},
		"item below its key": {
			"a:\n    - b: c\n      d: e\nf: g\n", "a:\n    - b: c\n      d: e\n    - x: 1\n      y: [2]\nf: g\n",
			appended("x: 1\ny: [2]", "a"), removeItem(1, "a"),
		},
		"item with dashes":             {"a:\n  - b\n", "a:\n  - b\n  - --c\n", appended("--c", "a"), removeItem(1, "a")},
		"item in a flow list":          {"a: [b, # c\n  d, ]\n", "a: [b, # c\n  d, {\"x\": 1}, ]\n", appended("{x: 1}", "a"), removeItem(2, "a")},
		"item in an empty list":        {"a: [ ]\n", "a: [0 ]\n", appended("0", "a"), removeItem(0, "a")},
		"scalar":                       {"a: 10 # short\n", "a: 40 # short\n", replace("40", "a"), replace("10", "a")},
		"mapping":                      {"a:\n  b:\n    c: 1 # one\n    d: 2\n  e: 3\n", "a:\n  b:\n    f: 4\n  e: 3\n", replace("f: 4", "a", "b"), replace("c: 1 # one\nd: 2", "a", "b")},
		"columns are not bytes":        {"é: {ü: ß, ä: 1}\n", "é: {ü: ß, ä: 2}\n", replace("2", "é", "ä"), replace("1", "é", "ä")},
		"line breaks of YAML 1.1":      {"a: \"\u2028\" # \u0085b: 1\n", "a: \"\u2028\" # \u0085b: 2\n", replace("2", "b"), replace("1", "b")},
		"text with a byte order mark":  {"\ufeffa: 1\n", "\ufeffa: 2\n", replace("2", "a"), replace("1", "a")},
		"octal number in a flow style": {"a: []\n", "a: [{\"mode\": 288}]\n", appended("{mode: 0440}", "a"), removeItem(0, "a")},
	} {
		t.Run(name, func(t *testing.T) {
			got := edited(t, c.text, c.edit)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatalf("the edit (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.text, edited(t, got, c.inverse)); diff != "" {
				t.Errorf("the inverse (-want +got):\n%s", diff)
			}
		})
	}
}

func edited(t *testing.T, text string, edit func(*testing.T, *Document) error) string {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := edit(t, d); err != nil {
		t.Fatal(err)
	}
	got, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// TestSource: the text of a value is without its indentation, so that it can be restored elsewhere.
func TestSource(t *testing.T) {
	d, err := Parse([]byte("a:\n  b:\n    c: 1 # one\n    d: >-\n      text\n  e: 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Source(at(t, d.Root(), "a", "b")), "c: 1 # one\nd: >-\n  text"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRefused: an edit that would also change another place, or that the layout does not allow, is an error
// with a position.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		edit func(*Document) error
		want string
	}{
		"value of an alias":    {"a: &x {b: c}\nd: *x\n", func(d *Document) error { return d.Add(d.Root().Content[1], "f", Scalar("1")) }, "1:4: an alias uses this value"},
		"alias":                {"a: &x {b: c}\nd: *x\n", func(d *Document) error { return d.Add(d.Root().Content[3], "f", Scalar("1")) }, "2:4: an alias uses this value"},
		"null":                 {"a:\n", func(d *Document) error { return d.Add(d.Root().Content[1], "f", Scalar("1")) }, "1:3: expected a mapping"},
		"absent key":           {"a: 1\n", func(d *Document) error { return d.RemoveKey(d.Root(), "b") }, `1:1: there is no key "b"`},
		"bad text":             {"a: 1\n", func(d *Document) error { return d.Replace(d.Root().Content[1], "[") }, "1:4: the text that is to replace this value is not valid YAML"},
		"other structure":      {"a: 1\n", func(d *Document) error { return d.Replace(d.Root().Content[1], "1\nb: 2") }, "1:4: the text that is to replace"},
		"value measured wrong": {"- a: |\n  b: 1\n", func(d *Document) error { return d.Replace(d.Root().Content[0].Content[1], "x") }, "1:1: the layout of this document cannot be edited"},
		"last key of an item":  {"- a: 1\n", func(d *Document) error { return d.RemoveKey(d.Root().Content[0], "a") }, "1:3: the layout of this document cannot be edited"},
	} {
		d, err := Parse([]byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if err = c.edit(d); err == nil {
			_, err = d.Bytes()
		}
		var at *Error
		if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"a: [\n":          "2:1: not valid YAML: did not find expected node content",
		"a: b\n---\nc: d": "2:1: text after the end of the document: begin the next document with ---",
		"a: b\n...\nc: d": "3:1: not valid YAML: did not find expected <document start>",
	} {
		if _, err := Parse([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("Parse(%q) = %v, want %s", text, err, want)
		}
	}
}

// TestFormerLines: FormerLines returns the former line of every line of an edited text.
func TestFormerLines(t *testing.T) {
	d, err := Parse([]byte("a:\n  b: 1\n  c: 2\nd: 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	a := at(t, d.Root(), "a")
	if err := errors.Join(d.RemoveKey(a, "b"), d.Add(a, "e", value(t, "[x]"))); err != nil {
		t.Fatal(err)
	}
	got, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if want := "a:\n  c: 2\n  e: [x]\nd: 3\n"; string(got) != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if diff := cmp.Diff([]int{1, 3, 4, 4}, d.FormerLines()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
