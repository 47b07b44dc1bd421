package yamledit

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// Value returns the value that text has as YAML. It is null for empty text.
func Value(text string) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return nil, err
	}
	if len(document.Content) == 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	}
	return document.Content[0], nil
}

// Scalar returns a string as a value.
func Scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

func clearPositions(n *yaml.Node) {
	n.Line, n.Column = 0, 0
	for _, inside := range n.Content {
		clearPositions(inside)
	}
}

// block returns n in block style, with the document's way to indent lists.
func (d *Document) block(n *yaml.Node) string {
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if d.compact {
		encoder.CompactSeqIndent()
	}
	// Nodes made by Value and Scalar can be encoded, and a buffer takes everything.
	if encoder.Encode(n) != nil || encoder.Close() != nil {
		return ""
	}
	return b.String()
}

// indent indents every line of text that is not empty.
func indent(text string, by int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(strings.Repeat(" ", by))
		}
		b.WriteString(line)
	}
	return b.String()
}

// flow returns n on one line, as JSON. It writes octal numbers, which JSON does not have, as decimal numbers.
func flow(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return flowScalar(n)
	}
	var items []string
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			items = append(items, flow(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		items = append(items, quoted(n.Content[i].Value)+": "+flow(n.Content[i+1]))
	}
	return "{" + strings.Join(items, ", ") + "}"
}

func flowScalar(n *yaml.Node) string {
	tag := n.ShortTag()
	if octal, err := strconv.ParseInt(n.Value, 8, 64); tag == "!!int" && err == nil && n.Value[0] == '0' {
		n.Value = strconv.FormatInt(octal, 10)
	}
	if tag == "!!int" || tag == "!!bool" {
		return n.Value
	}
	return quoted(n.Value)
}

// quoted returns text as a JSON string, which YAML reads as the same text.
func quoted(text string) string {
	b, _ := jsontext.AppendQuote(nil, text) // the error is about invalid UTF-8, which the parser refuses
	return string(b)
}
