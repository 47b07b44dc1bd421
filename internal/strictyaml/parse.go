package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Only this file reads configurations with the YAML library, and it uses only the library's parser. The decoder decides what a node
// means.
type (
	node = yaml.Node
	kind = yaml.Kind
)

const (
	mappingNode = yaml.MappingNode
	listNode    = yaml.SequenceNode
	scalarNode  = yaml.ScalarNode
	aliasNode   = yaml.AliasNode
)

// The tags that the parser gives to scalars without quotation marks.
const (
	nullTag  = "!!null"
	boolTag  = "!!bool"
	intTag   = "!!int"
	floatTag = "!!float"
	mergeTag = "!!merge" // the tag of the key <<
)

// hasTag reports whether n has an explicit type, such as !!binary.
func hasTag(n *node) bool { return n.Style&yaml.TaggedStyle != 0 }

// isFlow reports whether n is written in brackets or braces.
func isFlow(n *node) bool { return n.Style&yaml.FlowStyle != 0 }

// parse returns the root of the only YAML document in text, or the faults that keep the text from being
// read at all. file is the file name in positions.
func parse(file string, text []byte) (*node, Faults) {
	if faults := checkText(file, text); faults != nil {
		return nil, faults
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, next node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, Faults{{Position: Position{file, 1, 1}, Message: "the file is empty"}}
	case err != nil:
		return nil, Faults{SyntaxFault(file, text, err)}
	}
	switch err := decoder.Decode(&next); {
	case err == nil:
		return nil, Faults{{Position: Position{file, next.Line, next.Column}, Message: "expected one document, found a second"}}
	case !errors.Is(err, io.EOF):
		return nil, Faults{SyntaxFault(file, text, err)}
	}
	return document.Content[0], nil
}

// The texts of the parser's errors. An error has a line but no column. The line counts from 1 for a
// wrong token, and from 0 for a wrong order of tokens. The error about an alias has no line.
var (
	yamlError    = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	orderError   = regexp.MustCompile(`^did not find expected (key|node content|'-' indicator|',' or .*|<.*>)$`)
	unknownAlias = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// SyntaxFault returns err, an error of the YAML parser about text, with its position and the likely cure.
func SyntaxFault(file string, text []byte, err error) Fault {
	line, column, message := 0, 1, err.Error()
	if m := yamlError.FindStringSubmatch(message); m != nil {
		message = m[2]
		line, _ = strconv.Atoi(m[1]) // 0 if the error has no line
	}
	if orderError.MatchString(message) {
		line++
	}
	if m := unknownAlias.FindStringSubmatch(message); m != nil {
		before, _, _ := bytes.Cut(text, []byte("*"+m[1]))
		line = 1 + bytes.Count(before, []byte("\n"))
		column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	}
	line = max(line, 1)
	return Fault{Position: Position{file, line, column}, Message: "not valid YAML: " + message + cureFor(message, text, line)}
}

// checkText finds faults that the parser reports with a poor message or not at all: bytes that are not
// UTF-8, and tabs in the indentation. It reports one fault for each line.
func checkText(file string, text []byte) (faults Faults) {
	line := 0
	for l := range bytes.Lines(text) {
		line++
		if column := invalidUTF8(l); column > 0 {
			message := "the file is not UTF-8"
			if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
				message += "; it is UTF-16: save it as UTF-8"
			}
			faults = append(faults, Fault{Position: Position{file, line, column}, Message: message})
			return faults // the rest of the file is probably not text
		}
		indent := l[:len(l)-len(bytes.TrimLeft(l, " \t"))]
		tab := bytes.IndexByte(indent, '\t')
		if blank := len(bytes.TrimSpace(l)) == 0; tab >= 0 && !blank {
			faults = append(faults, Fault{Position: Position{file, line, tab + 1}, Message: "found a tab; indent with spaces"})
		}
	}
	return faults
}

// invalidUTF8 returns the column, counted in characters, of the first byte that is not UTF-8, or
// 0 for valid text.
func invalidUTF8(line []byte) int {
	if utf8.Valid(line) {
		return 0
	}
	column := 1
	for {
		r, size := utf8.DecodeRune(line)
		if r == utf8.RuneError && size == 1 {
			return column
		}
		line, column = line[size:], column+1
	}
}
