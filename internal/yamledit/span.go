package yamledit

import (
	"bytes"
	"sort"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// breaks are the line breaks of YAML 1.1, which the parser counts.
var breaks = []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"}

// breakAt returns the length of the line break at the beginning of text, or 0.
func breakAt(text []byte) int {
	for _, b := range breaks {
		if bytes.HasPrefix(text, []byte(b)) {
			return len(b)
		}
	}
	return 0
}

func lineStarts(text []byte) []int {
	starts := []int{0}
	for i := 0; i < len(text); {
		n := breakAt(text[i:])
		if i += max(n, 1); n > 0 {
			starts = append(starts, i)
		}
	}
	return starts
}

// offset returns the offset of the position of n.
func (d *Document) offset(n *yaml.Node) int {
	_ = d.end(n) // measures all nodes
	return d.starts[n]
}

// A cursor is a position and its offset. It moves forward within a line, so that the nodes of one long line cost
// one pass over the line, and not a pass each.
type cursor struct{ line, column, at int }

// seek moves c to a position and returns its offset.
func (d *Document) seek(c *cursor, line, column int) int {
	if line != c.line || column < c.column {
		*c = cursor{line, 1, len(d.text)}
		if line <= len(d.lines) {
			c.at = d.lines[line-1]
		}
		if line == 1 && bytes.HasPrefix(d.text, []byte("\ufeff")) {
			c.at += len("\ufeff")
		}
	}
	for ; c.column < column; c.column++ {
		_, size := utf8.DecodeRune(d.text[c.at:])
		c.at += size
	}
	return c.at
}

// lineIndex returns the index in d.lines of the line that contains at.
func (d *Document) lineIndex(at int) int {
	return sort.SearchInts(d.lines, at+1) - 1
}

// lineStart returns the offset of the line that contains at.
func (d *Document) lineStart(at int) int { return d.lines[d.lineIndex(at)] }

// lineEnd returns the offset of the line break at or after at, and the offset of the next line. Both are
// the length of the text in the last line.
func (d *Document) lineEnd(at int) (end, next int) {
	i := d.lineIndex(at) + 1
	if i == len(d.lines) {
		return len(d.text), len(d.text)
	}
	next = d.lines[i]
	return max(at, d.beforeBreak(next)), next
}

// end returns the offset behind the text of n, without a comment that follows it. For nodes that the
// parser places inexactly the offset may be wrong; [Document.Bytes] finds edits that went wrong. The first
// call, before the first edit, measures all nodes, because edits change the tree and not the text.
func (d *Document) end(n *yaml.Node) int {
	if d.ends == nil {
		d.starts, d.ends = map[*yaml.Node]int{}, map[*yaml.Node]int{}
		d.measure(d.root, &cursor{})
	}
	return d.ends[n]
}

// measure sets the starts and ends of n and of all nodes inside it.
func (d *Document) measure(n *yaml.Node, c *cursor) int {
	d.starts[n] = d.seek(c, n.Line, n.Column)
	last, properties := d.skipProperties(n)
	if n.Kind == yaml.AliasNode {
		last += len("*") + len(n.Value)
	}
	if n.Kind == yaml.ScalarNode {
		last = d.scalarEnd(n, last, properties)
	}
	open := last
	for _, inside := range n.Content {
		last = max(last, d.measure(inside, c))
	}
	if isFlow(n) && last == open {
		last++ // the bracket
	}
	if isFlow(n) {
		last = d.closing(last)
	}
	d.ends[n] = last
	return last
}

// skipProperties returns the offset of the value of n, which is behind its anchor and tag, and the offset at
// which anchor and tag end.
func (d *Document) skipProperties(n *yaml.Node) (value, properties int) {
	at := d.starts[n]
	properties = at
	if n.Anchor == "" && n.Style&yaml.TaggedStyle == 0 {
		return at, properties
	}
	for at < len(d.text) && (d.text[at] == '&' || d.text[at] == '!') {
		for at < len(d.text) && !strings.ContainsRune(" \t\r\n,]}", rune(d.text[at])) {
			at++
		}
		properties = at
		at = d.skipSpace(at)
	}
	return at, properties
}

// skipSpace returns the offset of the next character that is no space, line break or comment.
func (d *Document) skipSpace(at int) int {
	for at < len(d.text) {
		switch n := breakAt(d.text[at:]); {
		case n > 0:
			at += n
		case d.text[at] == ' ' || d.text[at] == '\t':
			at++
		case d.text[at] == '#':
			at, _ = d.lineEnd(at)
		default:
			return at
		}
	}
	return at
}

// closing returns the offset behind the bracket that ends a flow list or mapping. at is behind its last
// value.
func (d *Document) closing(at int) int {
	for at < len(d.text) {
		at = d.skipSpace(at)
		if at < len(d.text) && (d.text[at] == ']' || d.text[at] == '}') {
			return at + 1
		}
		at++
	}
	return len(d.text)
}

func (d *Document) scalarEnd(n *yaml.Node, at, properties int) int {
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return d.blockScalarEnd(at)
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for at++; at < len(d.text) && d.text[at] != '"'; at++ {
			if d.text[at] == '\\' {
				at++
			}
		}
		return min(at+1, len(d.text))
	case n.Style&yaml.SingleQuotedStyle != 0:
		for at++; at < len(d.text); at++ {
			if d.text[at] != '\'' {
				continue
			}
			if at+1 < len(d.text) && d.text[at+1] == '\'' {
				at++
				continue
			}
			return at + 1
		}
		return len(d.text)
	case n.Value == "":
		return properties
	}
	return d.plainEnd(n.Value, at)
}

// plainEnd finds the end of a plain scalar by its value: a line break with the space around it is one
// space in the value, and several line breaks are one less.
func (d *Document) plainEnd(value string, at int) int {
	for i := 0; i < len(value) && at < len(d.text); {
		if value[i] != ' ' && value[i] != '\n' {
			i, at = i+1, at+1
			continue
		}
		for i < len(value) && (value[i] == ' ' || value[i] == '\n') {
			i++
		}
		for at < len(d.text) {
			n := breakAt(d.text[at:])
			if n == 0 && d.text[at] != ' ' && d.text[at] != '\t' {
				break
			}
			at += max(n, 1)
		}
	}
	return at
}

// blockScalarEnd returns the end of the last line of a literal or folded scalar, whose header is at
// at. Empty lines behind it belong to the scalar only if the header has a plus sign.
func (d *Document) blockScalarEnd(at int) int {
	end, next := d.lineEnd(at)
	header, _, _ := bytes.Cut(d.text[at:end], []byte("#"))
	keep := bytes.ContainsRune(header, '+')
	// The content is deeper than the line of the header. With an explicit indentation, this is the least.
	parent := indentation(d.text[d.lineStart(at):end])
	indent := 0
	if bytes.ContainsAny(header, "123456789") {
		indent = parent + 1
	}
	for next < len(d.text) {
		lineEnd, following := d.lineEnd(next)
		line := d.text[next:lineEnd]
		blank := len(bytes.TrimLeft(line, " ")) == 0
		if !blank && indent == 0 {
			indent = max(indentation(line), parent+1)
		}
		if !blank && indentation(line) < indent {
			return end
		}
		if !blank || keep {
			end = lineEnd
		}
		next = following
		if following == lineEnd {
			return end
		}
	}
	return end
}

func indentation(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }
