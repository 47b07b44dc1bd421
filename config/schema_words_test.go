package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// exampleWords are the comments of config.example.yaml, from which docs/configuration.md is made too.
type exampleWords struct {
	t      *testing.T
	byPath map[string]string   // by the path of the key, without the indexes of lists
	byKey  map[fieldKey]string // for a type that occurs in several places
}

type fieldKey struct {
	of  reflect.Type
	key string
}

// of returns the words about a key of the type at the path.
func (w *exampleWords) of(t reflect.Type, key, path string) string {
	words := w.byPath[path]
	if words == "" {
		words = w.byKey[fieldKey{t, key}]
	}
	if list, ok := strings.CutPrefix(path, "issuer.governance."); ok && words == "" {
		// The lists of rules have keys in common, which the first list explains.
		_, rest, _ := strings.Cut(list, ".")
		words = w.byPath["issuer.governance.workspace."+rest]
	}
	if words == "" {
		w.t.Errorf("config.example.yaml has no comment on %s", path)
	}
	return words
}

var (
	keyLine  = regexp.MustCompile(`^( *(?:- )?)([a-z0-9_]+):(?: (.*))?$`)
	hashLine = regexp.MustCompile(`^( *)# ?(.*)$`)
	// In a comment that has keys, a comment has a second number sign.
	nestedHash = regexp.MustCompile(`^ *# `)
	// A comment behind a value begins with " # " outside quotation marks.
	trailing = regexp.MustCompile(`^(?:"[^"]*"|'[^']*'|[^"'#]|\S#)*? ?# (.*)$`)
)

// An openKey is a key of the example whose value is being read.
type openKey struct {
	column int
	of     reflect.Type // the type of the values inside its value
	path   string
}

// readExample reads the comments of the example: those above a key, and those behind its value. It also
// reads keys that are comments because they exclude another key.
func readExample(t *testing.T) *exampleWords {
	t.Helper()
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	w := &exampleWords{t, make(map[string]string), make(map[fieldKey]string)}
	open := []openKey{{-1, reflect.TypeFor[Config](), ""}}
	var above []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		comment := hashLine.FindStringSubmatch(line)
		if comment != nil {
			line = comment[1] + comment[2]
		}
		key := keyLine.FindStringSubmatch(line)
		in, field := open[0], reflect.StructField{}
		if key != nil {
			parents := open
			for parents[len(parents)-1].column >= len(key[1]) {
				parents = parents[:len(parents)-1]
			}
			in = parents[len(parents)-1]
			if field = fieldOf(in.of, key[2]); field.Name != "" {
				open = append(parents, openKey{len(key[1]), inner(field.Type), strings.TrimPrefix(in.path+"."+key[2], ".")})
			}
		}
		switch {
		case field.Name != "":
			w.add(in, field, key, above)
			above = nil
		case comment != nil: // prose, also in the form word: prose
			above = append(above, nestedHash.ReplaceAllString(comment[2], ""))
		default:
			above = nil
		}
	}
	return w
}

// add stores the comments on a key. The comment above the first key of a list's element is about the
// element.
func (w *exampleWords) add(in openKey, field reflect.StructField, key, above []string) {
	if strings.HasSuffix(key[1], "- ") {
		above = nil
	}
	var words []string
	if m := trailing.FindStringSubmatch(key[3]); m != nil {
		words = append(words, m[1])
	}
	words = append(words, above...)
	text := joinLines(words)
	path := strings.TrimPrefix(in.path+"."+key[2], ".")
	if text == "" {
		return
	}
	if w.byPath[path] == "" {
		w.byPath[path] = text
	}
	if at := (fieldKey{in.of, field.Tag.Get("yaml")}); w.byKey[at] == "" {
		w.byKey[at] = text
	}
}

// joinLines joins the lines of a comment. A line that is indented stays a line, and an empty line ends a
// paragraph.
func joinLines(lines []string) string {
	var text strings.Builder
	for _, line := range lines {
		switch {
		case line == "":
			text.WriteString("\n\n")
			continue
		case strings.HasPrefix(line, " "):
			text.WriteString("\n")
		case text.Len() > 0 && !strings.HasSuffix(text.String(), "\n"):
			text.WriteString(" ")
		}
		text.WriteString(strings.TrimSpace(line))
	}
	return text.String()
}

// fieldOf returns the field of a struct type with the key, or a field without a name.
func fieldOf(t reflect.Type, key string) reflect.StructField {
	if t.Kind() == reflect.Struct {
		for f := range t.Fields() {
			if f.Tag.Get("yaml") == key {
				return f
			}
		}
	}
	return reflect.StructField{}
}

// inner returns the type of the values inside pointers and lists.
func inner(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}
