// Package yamledit edits the text of a YAML document at the positions of its nodes. Text that no edit
// touches keeps its bytes: comments, order of keys, quotation marks, indentation and line breaks.
package yamledit

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// A Document is the text of one YAML document, its tree of nodes, and the edits made so far. Each edit
// changes the tree at once and the text when [Document.Bytes] is called. A Document is not safe for
// concurrent use.
type Document struct {
	root      *yaml.Node // nil: the text has no document, only comments
	text      []byte
	lines     []int // the offset of each line
	edits     []edit
	starts    map[*yaml.Node]int // offsets, nil until the first edit, see end
	ends      map[*yaml.Node]int
	shared    map[*yaml.Node]bool // nodes inside a value that an alias refers to
	lineBreak string
	compact   bool // lists are not indented below their keys
}

// An edit replaces text[from:to].
type edit struct {
	from, to int
	text     string
	depth    int // the depth of inserted lines; the innermost lines come first
}

// An Error is a fault at a position of the document. Line and Column count from 1, Column in characters.
type Error struct {
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
}

// Fail returns an error at the position of n.
func Fail(n *yaml.Node, format string, args ...any) error {
	return &Error{max(n.Line, 1), max(n.Column, 1), fmt.Sprintf(format, args...)}
}

// Parse returns the only document in text. The error is an [*Error].
func Parse(text []byte) (*Document, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, next yaml.Node
	d := &Document{text: text, lines: lineStarts(text), lineBreak: "\n"}
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return d, nil
	} else if err != nil {
		return nil, syntaxError(text, err)
	}
	if err := decoder.Decode(&next); err == nil {
		return nil, Fail(&next, "text after the end of the document: begin the next document with ---")
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(text, err)
	}
	d.root = document.Content[0]
	if first, _ := d.lineEnd(0); bytes.HasPrefix(text[first:], []byte("\r\n")) {
		d.lineBreak = "\r\n"
	}
	d.shared = aliased(d.root)
	d.compact = compactLists(d.root)
	return d, nil
}

func syntaxError(text []byte, err error) error {
	fault := strictyaml.SyntaxFault("", text, err)
	return &Error{fault.Line, fault.Column, fault.Message}
}

// LineBreak returns the line break of added lines, which is that of the first line.
func (d *Document) LineBreak() string { return d.lineBreak }

// Root returns the root of the tree, nil for a document without content.
func (d *Document) Root() *yaml.Node { return d.root }

// Bytes returns the text with all edits. It parses the result and returns an error if its tree is not
// the edited tree, so that no layout of the text can make an edit mean something else.
func (d *Document) Bytes() ([]byte, error) {
	if len(d.edits) == 0 {
		return d.text, nil
	}
	pieces, err := d.pieces()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, p := range pieces {
		b.WriteString(p.text)
	}
	again, err := Parse(b.Bytes())
	if err != nil || again.root == nil || !Equal(again.root, d.root) {
		return nil, errLayout(d.root)
	}
	return b.Bytes(), nil
}

// A piece is a part of the text with all edits.
type piece struct {
	text string
	from int  // the offset of text in the former text
	new  bool // an edit inserts text at this offset
}

// pieces applies the edits.
func (d *Document) pieces() ([]piece, error) {
	slices.SortStableFunc(d.edits, func(a, b edit) int { return cmp.Or(a.from-b.from, b.depth-a.depth) })
	var pieces []piece
	at := 0
	for _, e := range d.edits {
		if e.from < at { // inside removed text
			if e.text != "" && e.to > at {
				return nil, errLayout(d.root)
			}
			at = max(at, e.to)
			continue
		}
		pieces = append(pieces, piece{string(d.text[at:e.from]), at, false}, piece{strings.ReplaceAll(e.text, "\n", d.lineBreak), e.from, true})
		at = e.to
	}
	return append(pieces, piece{string(d.text[at:]), at, false}), nil
}

// FormerLines returns, for each line of the text with all edits, the line of the former text that it comes
// from, or before which it was inserted. Lines end at line feeds and count from 1.
func (d *Document) FormerLines() []int {
	pieces, err := d.pieces()
	if err != nil {
		return nil
	}
	var lines []int
	line, counted, begins := 1, 0, true // line is the line of offset counted
	for _, p := range pieces {
		for i := range len(p.text) {
			if begins {
				at := p.from
				if !p.new {
					at += i
				}
				line += bytes.Count(d.text[counted:at], []byte("\n"))
				counted = at
				lines = append(lines, line)
			}
			begins = p.text[i] == '\n'
		}
	}
	return lines
}

func errLayout(n *yaml.Node) error {
	return Fail(n, "the layout of this document cannot be edited without another change: write it in block style, one key on each line")
}

// Equal reports whether two trees have the same meaning. It ignores comments, styles and positions.
func Equal(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || a.Value != b.Value || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) {
		return false
	}
	return slices.EqualFunc(a.Content, b.Content, Equal)
}

// aliased returns the nodes inside the values that aliases refer to.
func aliased(root *yaml.Node) map[*yaml.Node]bool {
	shared := map[*yaml.Node]bool{}
	var mark, find func(*yaml.Node)
	mark = func(n *yaml.Node) {
		if shared[n] {
			return
		}
		shared[n] = true
		for _, inside := range n.Content {
			mark(inside)
		}
	}
	find = func(n *yaml.Node) {
		if n.Kind == yaml.AliasNode {
			shared[n] = true
			mark(n.Alias)
		}
		for _, inside := range n.Content {
			find(inside)
		}
	}
	find(root)
	return shared
}

// compactLists reports whether the first list of the document stands at the column of its key.
func compactLists(n *yaml.Node) bool {
	compact, found := false, false
	var find func(*yaml.Node)
	find = func(n *yaml.Node) {
		for i, inside := range n.Content {
			if found || n.Style&yaml.FlowStyle != 0 {
				return
			}
			if n.Kind == yaml.MappingNode && i%2 == 1 && inside.Kind == yaml.SequenceNode && inside.Style&yaml.FlowStyle == 0 {
				compact, found = inside.Column == n.Content[i-1].Column, true
				return
			}
			find(inside)
		}
	}
	find(n)
	return compact
}
