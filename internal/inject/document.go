package inject

import (
	"bytes"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/strictyaml"
	"github.com/tallygate/tallygate/internal/yamledit"
)

// A file is the documents of a file, in order.
type file struct {
	name      string
	documents []*document
	former    []int // by line, the line in the file that was read; nil: the same
}

// line returns the line of the file that became line n when the gate was removed.
func (f *file) line(n int) int {
	if n-1 < len(f.former) {
		return f.former[n-1]
	}
	return n
}

// A document is one document of a file, with the line --- before it.
type document struct {
	*yamledit.Document // nil: the text is not valid YAML
	text               []byte
	file               *file
	firstLine          int // the number of lines before the document
	dropped            bool
	after              []string // documents to add behind this one, without ---
}

// parse splits text into documents and finds their objects.
func (s *set) parse(f *file, text []byte) {
	line := 0
	for _, chunk := range split(text) {
		d := &document{file: f, text: chunk, firstLine: line}
		f.documents = append(f.documents, d)
		var err error
		if d.Document, err = yamledit.Parse(chunk); err != nil {
			s.failed(d, "", err)
		} else if root := d.Root(); root != nil && !yamledit.IsNull(root) {
			s.find(d, root)
		}
		line += bytes.Count(chunk, []byte("\n"))
	}
}

// split returns the documents of text. Each begins with its line ---, except perhaps the first. Their
// concatenation is text.
func split(text []byte) [][]byte {
	var chunks [][]byte
	start, at := 0, 0
	for line := range bytes.Lines(text) {
		rest, begins := bytes.CutPrefix(line, []byte("---"))
		if begins && at > start && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n")) && !onlyDirectives(text[start:at]) {
			chunks, start = append(chunks, text[start:at]), at
		}
		at += len(line)
	}
	return append(chunks, text[start:])
}

// onlyDirectives reports whether text has directives, such as %YAML 1.2, for the document that follows,
// and otherwise only comments and empty lines.
func onlyDirectives(text []byte) bool {
	found := false
	for line := range bytes.Lines(text) {
		switch line = bytes.TrimSpace(line); {
		case bytes.HasPrefix(line, []byte("%")):
			found = true
		case len(line) > 0 && line[0] != '#':
			return false
		}
	}
	return found
}

// find adds the objects of a document: its root, or the items of a List or of a list of one kind, such as a
// DeploymentList.
func (s *set) find(d *document, root *yaml.Node) {
	o := newObject(d, root)
	if !s.checkMapping(o, o.node) { // with duplicate keys the kind of the object is ambiguous
		return
	}
	if !strings.HasSuffix(o.kind, "List") {
		s.objects = append(s.objects, o)
		return
	}
	items := value(root, "items")
	if items == nil || items.Kind != yaml.SequenceNode {
		s.objects = append(s.objects, o)
		return
	}
	for _, item := range items.Content {
		inside := newObject(d, item)
		if !s.checkMapping(inside, inside.node) {
			continue
		}
		if inside.kind == "" { // the items of a DeploymentList may have no kind
			inside.kind, inside.version = strings.TrimSuffix(o.kind, "List"), o.version
		}
		inside.list = items
		s.objects = append(s.objects, inside)
	}
}

// join returns the text of a file after all edits, and for each of its lines the line before them.
// Documents with faults stay as they are.
func (s *set) join(f *file) (text []byte, former []int) {
	var b bytes.Buffer
	for _, d := range f.documents {
		content, lines := s.edited(d)
		if d.dropped {
			if !bytes.HasSuffix(content, []byte("\n")) { // the last document: join has added the line break before it
				b.Truncate(len(bytes.TrimSuffix(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte("\r"))))
			}
			continue
		}
		b.Write(content)
		for i := range bytes.Count(content, []byte("\n")) {
			former = append(former, f.line(d.firstLine+lines[i]))
		}
		for _, next := range d.after {
			b.Write(d.following(content, next))
		}
	}
	return b.Bytes(), former
}

// edited returns the text of d after its edits, and for each line the line before them.
func (s *set) edited(d *document) (text []byte, lines []int) {
	text = d.text
	if d.Document != nil {
		edited, err := d.Bytes()
		if err == nil {
			return edited, d.FormerLines()
		}
		s.failed(d, "", err)
	}
	for i := range bytes.Count(text, []byte("\n")) {
		lines = append(lines, i+1)
	}
	return text, lines
}

// following returns the text that adds document next behind text. It ends with a line break if text does.
func (d *document) following(text []byte, next string) []byte {
	added := []byte("---\n" + next)
	if !bytes.HasSuffix(text, []byte("\n")) {
		added = append([]byte("\n"), bytes.TrimSuffix(added, []byte("\n"))...)
	}
	if d.LineBreak() != "\n" {
		added = bytes.ReplaceAll(added, []byte("\n"), []byte(d.LineBreak()))
	}
	return added
}

// failed records an error of package yamledit.
func (s *set) failed(d *document, path string, err error) {
	var at *yamledit.Error
	if !errors.As(err, &at) {
		at = &yamledit.Error{Line: 1, Column: 1, Message: err.Error()}
	}
	s.faults = append(s.faults, strictyaml.Fault{
		Position: strictyaml.Position{File: d.file.name, Line: d.file.line(d.firstLine + at.Line), Column: at.Column},
		Path:     path, Message: at.Message,
	})
}
