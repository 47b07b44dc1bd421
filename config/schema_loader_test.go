package config

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A mutation is a change of a value in a valid configuration.
type mutation struct {
	name   string
	change func(n *yaml.Node)
}

func scalarValue(tag, value string) func(*yaml.Node) {
	return func(n *yaml.Node) { *n = yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value} }
}

var mutations = []mutation{
	{"null", scalarValue("!!null", "null")},
	{"empty text", func(n *yaml.Node) { *n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle} }},
	{"text with spaces", scalarValue("!!str", "a b")},
	{"a word", scalarValue("!!str", "x")},
	{"lines", func(n *yaml.Node) {
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: "a\nb"}
	}},
	{"0", scalarValue("!!int", "0")},
	{"-1", scalarValue("!!int", "-1")},
	{"1", scalarValue("!!int", "1")},
	{"1.5", scalarValue("!!float", "1.5")},
	{"mapping", func(n *yaml.Node) { *n = yaml.Node{Kind: yaml.MappingNode} }},
	{"list", func(n *yaml.Node) { *n = yaml.Node{Kind: yaml.SequenceNode} }},
	{"list of a word", func(n *yaml.Node) {
		*n = yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "x"}}}
	}},
}

// What the schema refuses, the loader refuses too: no operator has to change a working configuration
// because of an editor. The schema also demands every key that the loader demands in all
// configurations.
//
// The schema takes no boolean where the loader takes any text: "name: true" is text to the loader, and other
// readers of YAML disagree about it, so the schema asks for quotation marks.
func TestSchemaAgainstLoader(t *testing.T) {
	t.Parallel()
	compiled := compileSchema(t)
	seeds := []string{exampleFile}
	for _, pattern := range []string{"testdata/good-*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, files...)
	}
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	tried, seen := 0, make(map[string]bool)
	for _, seed := range seeds {
		text, err := os.ReadFile(seed)
		if err != nil {
			t.Fatal(err)
		}
		document := parseYAML(t, text)
		inline(document)
		mutateAll(document.Content[0], "", func(path, what string) {
			shape, deleted := shapeOf(t, root, path)+" "+what, what == "deleted"
			if deleted { // the validation of a missing key belongs to its place
				shape = index.ReplaceAllString(path, "") + " " + what
			}
			if seen[shape] {
				return // another value of the same type
			}
			seen[shape] = true
			tried++
			value := jsonOf(document)
			schemaErr := compiled.Validate(value)
			if schemaErr == nil && !deleted {
				return
			}
			mutated, err := json.Marshal(value) // JSON is YAML, and its encoder is faster
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(seed, "", mutated)
			if schemaErr != nil && err == nil {
				t.Errorf("%s, %s %s: the schema refuses it and Parse does not: %v", seed, path, what, schemaErr)
			}
			if deleted && schemaErr == nil && missing(err, path) {
				t.Errorf("%s, %s %s: Parse refuses it (%v) and the schema does not", seed, path, what, err)
			}
		})
	}
	if tried < 600 {
		t.Errorf("%d changes tried, want 600 at least", tried)
	}
}

// missing reports whether err says that the key at path is required, without a condition.
func missing(err error, path string) bool {
	var faults Faults
	if !errors.As(err, &faults) {
		return false
	}
	conditional := []string{
		"listener.certificate.files.certificate", "listener.certificate.files.key", "listener.client_certificates.header", "issuer.state", // depends on acme, from and issuer.database
	}
	return slices.ContainsFunc(faults, func(f Fault) bool {
		required := f.Message == "is required" || strings.HasPrefix(f.Message, "at least one is required")
		return required && f.Path == path && !slices.Contains(conditional, path) &&
			!strings.Contains(path, "introspection.") && !strings.HasSuffix(path, "certificate.key") && !strings.HasSuffix(path, "certificate.certificate") &&
			!strings.HasPrefix(path, "issuer.certificate.")
	})
}

// inline replaces aliases by their values, so that a change has no effect elsewhere, and removes comments.
func inline(n *yaml.Node) {
	n.Anchor, n.HeadComment, n.LineComment, n.FootComment = "", "", "", ""
	for i, child := range n.Content {
		if child.Kind == yaml.AliasNode {
			copied := *child.Alias
			n.Content[i] = &copied
		}
		inline(n.Content[i])
	}
}

// index matches the index of a list in a path.
var index = regexp.MustCompile(`\[\d+\]`)

// shapeOf returns the schema of the values at path without descriptions, defaults and inner schemas. Values
// of the same shape have the same parser.
func shapeOf(t *testing.T, root map[string]any, path string) string {
	t.Helper()
	node := root
	for step := range strings.SplitSeq(path, ".") {
		key, _, isElement := strings.Cut(step, "[")
		for _, one := range append([]any{node}, variants(node)...) {
			if properties, ok := one.(map[string]any)["properties"].(map[string]any); ok && key != "" {
				node, _ = properties[key].(map[string]any)
				break
			}
		}
		if isElement {
			node, _ = node["items"].(map[string]any)
		}
	}
	shape := make(map[string]any)
	for key, value := range node {
		if key != "description" && key != "default" && key != "properties" && key != "items" {
			shape[key] = value
		}
	}
	encoded, err := json.Marshal(shape)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func variants(node map[string]any) []any {
	list, _ := node["anyOf"].([]any)
	return list
}

// mutateAll makes every mutation of each value below n, and calls try with the path and the name of the
// mutation.
func mutateAll(n *yaml.Node, path string, try func(path, what string)) {
	original := *n
	attempt := func(path, what string) {
		try(path, what)
		*n = original
	}
	for _, m := range mutations {
		m.change(n)
		attempt(path, m.name)
	}
	if n.Kind == yaml.SequenceNode {
		for i, element := range n.Content {
			mutateAll(element, path+"["+strconv.Itoa(i)+"]", try)
		}
	}
	if n.Kind == yaml.MappingNode {
		n.Content = append(slices.Clone(original.Content), &yaml.Node{Kind: yaml.ScalarNode, Value: "no_such_key"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "x"})
		attempt(path, "with an unknown key")
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
			n.Content = slices.Delete(slices.Clone(original.Content), i, i+2)
			attempt(key, "deleted")
			mutateAll(n.Content[i+1], key, try)
		}
	}
}
