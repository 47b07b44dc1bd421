package yamledit

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Get returns the key and the value of key in the mapping m, or nil.
func Get(m *yaml.Node, key string) (k, value *yaml.Node) {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// IsNull reports whether n is a value without content.
func IsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func isFlow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// Source returns the text of n. Lines after the first begin at the column of n.
func (d *Document) Source(n *yaml.Node) string {
	text := string(d.text[d.offset(n):d.end(n)])
	if d.lineBreak != "\n" {
		text = strings.ReplaceAll(text, d.lineBreak, "\n")
	}
	return strings.ReplaceAll(text, "\n"+strings.Repeat(" ", n.Column-1), "\n")
}

// writable returns an error if an edit of n would also change another place, or if n has no text of its
// own.
func (d *Document) writable(n *yaml.Node) error {
	_ = d.end(n) // measures all nodes before the first edit
	if d.shared[n] {
		return Fail(n, "an alias uses this value in another place, so it cannot be changed here alone: write the value out instead of the alias")
	}
	return nil
}

// Add appends a key with a value to the mapping m.
func (d *Document) Add(m *yaml.Node, key string, value *yaml.Node) error {
	if err := d.writable(m); err != nil {
		return err
	}
	if m.Kind != yaml.MappingNode {
		return Fail(m, "expected a mapping: for none, remove the key or write {}")
	}
	k := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}
	entry := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{k, value}}
	return d.insert(m, entry, k, value)
}

// Append appends value to the list s.
func (d *Document) Append(s, value *yaml.Node) error {
	if err := d.writable(s); err != nil {
		return err
	}
	if s.Kind != yaml.SequenceNode {
		return Fail(s, "expected a list: for none, remove the key or write []")
	}
	entry := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{value}}
	return d.insert(s, entry, value)
}

// AppendAfter inserts value into the list s behind the item with index i.
func (d *Document) AppendAfter(s *yaml.Node, i int, value *yaml.Node) error {
	entry := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{value}}
	return d.insertAfter(s, i+1, entry, value)
}

func (d *Document) insert(at, entry *yaml.Node, content ...*yaml.Node) error {
	return d.insertAfter(at, len(at.Content), entry, content...)
}

// insertAfter inserts the element of entry, a mapping or list with one element, into at, a mapping or
// list. The element then begins at index i of at.Content.
func (d *Document) insertAfter(at *yaml.Node, i int, entry *yaml.Node, content ...*yaml.Node) error {
	if err := d.writable(at); err != nil {
		return err
	}
	clearPositions(entry)
	before := slices.Clone(at.Content[:i])
	before = slices.DeleteFunc(before, func(n *yaml.Node) bool { return n.Line == 0 })
	if isFlow(at) {
		text := flow(entry)
		text = text[1 : len(text)-1]
		position := d.offset(at)
		if len(before) > 0 {
			position = d.end(before[len(before)-1])
		} else if value, _ := d.skipProperties(at); true {
			position = value + 1
		}
		if i > 0 {
			text = ", " + text
		}
		d.edits = append(d.edits, edit{from: position, to: position, text: text})
	} else {
		if len(before) == 0 {
			return errLayout(at)
		}
		column := d.column(at)
		text := indent(d.block(entry), column-1)
		end, next := d.lineEnd(d.end(before[len(before)-1]))
		if next == end {
			text = "\n" + strings.TrimSuffix(text, "\n")
		}
		d.edits = append(d.edits, edit{next, next, text, depth(at, column)})
	}
	at.Content = slices.Insert(at.Content, i, content...)
	return nil
}

// depth orders lines that are inserted at one place into nested lists and mappings. A list may stand at the
// column of its key, so the items come before the keys of this column.
func depth(n *yaml.Node, column int) int {
	if n.Kind == yaml.SequenceNode {
		return 2*column + 1
	}
	return 2 * column
}

// column returns the column of the entries of a block mapping or list.
func (d *Document) column(n *yaml.Node) int {
	if n.Kind == yaml.MappingNode {
		for _, key := range n.Content {
			if key.Line > 0 {
				return key.Column
			}
		}
	}
	return n.Column
}

// Replace replaces the text of n by text, whose lines after the first are indented to the column of n.
func (d *Document) Replace(n *yaml.Node, text string) error {
	if err := d.writable(n); err != nil {
		return err
	}
	value, err := Value(text)
	if err != nil {
		return Fail(n, "the text that is to replace this value is not valid YAML")
	}
	if isFlow(n) && !isFlow(value) && value.Kind != yaml.ScalarNode {
		text = flow(value)
	}
	from, to := d.offset(n), d.end(n)
	if text == "" {
		from -= len(d.text[:from]) - len(bytes.TrimRight(d.text[:from], " "))
	}
	if IsNull(n) && from == to {
		text = " " + text
	}
	d.edits = append(d.edits, edit{from: from, to: to, text: strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", n.Column-1))})
	line, column := n.Line, n.Column
	*n = *value
	n.Line, n.Column = line, column
	for _, inside := range n.Content {
		clearPositions(inside)
	}
	return nil
}

// ReplaceFlow replaces the text of n by value in flow style.
func (d *Document) ReplaceFlow(n, value *yaml.Node) error { return d.Replace(n, flow(value)) }

// RemoveKey removes a key and its value from the mapping m.
func (d *Document) RemoveKey(m *yaml.Node, key string) error {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return d.remove(m, i, 2, d.offset(m.Content[i]))
		}
	}
	return Fail(m, "there is no key %q", key)
}

// RemoveItem removes the item with index i from the list s.
func (d *Document) RemoveItem(s *yaml.Node, i int) error {
	if isFlow(s) {
		return d.remove(s, i, 1, d.offset(s.Content[i]))
	}
	dash := d.offset(s.Content[i]) - 1 // the item may itself begin with a dash
	for dash > 0 && d.text[dash] != '-' {
		dash--
	}
	return d.remove(s, i, 1, dash)
}

// remove removes n nodes from index i on; from is where their text begins.
func (d *Document) remove(at *yaml.Node, i, n, from int) error {
	if err := d.writable(at); err != nil {
		return err
	}
	to := d.end(at.Content[i+n-1])
	last := i+n == len(at.Content)
	switch lineFrom := d.lineStart(from); {
	case isFlow(at) && i > 0:
		from = d.end(at.Content[i-1])
	case isFlow(at) && !last:
		to = d.offset(at.Content[i+n])
	case isFlow(at):
	case len(bytes.Trim(d.text[lineFrom:from], " ")) == 0:
		from = lineFrom
		var end int
		if end, to = d.lineEnd(to); to == end && from > 0 { // the last line has no line break
			from = d.beforeBreak(from)
		}
	case !last && at.Kind == yaml.MappingNode: // the first key of a list's item
		to = d.offset(at.Content[i+n])
	default:
		return errLayout(at.Content[i])
	}
	d.edits = append(d.edits, edit{from: from, to: to})
	at.Content = slices.Delete(at.Content, i, i+n)
	return nil
}

// beforeBreak returns the offset of the line break whose end is the offset at.
func (d *Document) beforeBreak(at int) int {
	for _, b := range breaks {
		if bytes.HasSuffix(d.text[:at], []byte(b)) {
			return at - len(b)
		}
	}
	return at
}
