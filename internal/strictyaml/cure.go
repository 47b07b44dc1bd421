package strictyaml

import (
	"bytes"
	"regexp"
	"strings"
)

// A cure is the likely remedy for an error of the YAML parser.
type cure struct {
	message *regexp.Regexp // matches the message of the parser
	line    *regexp.Regexp // matches the line of the file, with the text to quote as its last group; nil: every line matches
	lines   int            // how many lines to search, from the line that the parser names on. The parser may name the first line of a mapping instead of the faulty line
	remedy  string         // %s stands for the text in quotation marks
}

// cures has the remedies. The first that matches is used, so special remedies come before general remedies.
// The texts to quote are names, paths and addresses, and never the value of an unknown key.
var cures = []cure{
	{regexp.MustCompile(`^did not find expected ',' or '[\]}]'$`), regexp.MustCompile(`(?:[:,\[]\s+|\[)(/[^\s"',]*\{\w*\}[^\s"',\]}]*)`), 5,
		"braces inside { } or [ ] need quotation marks: write %s"},
	{regexp.MustCompile(`^did not find expected key$`), regexp.MustCompile(`:\s+(\{\w*\}[^\s,"'}]+)`), farthest, "text that begins with a brace needs quotation marks: write %s"},
	{regexp.MustCompile(`^did not find expected key$`), regexp.MustCompile(`:\s+'[^']*'\w`), farthest, `write ' inside single quotation marks twice, or use double quotation marks`},
	{regexp.MustCompile(`^did not find expected key$`), nil, 0, "compare the indentation and the quotation marks with those of the lines before"},
	{regexp.MustCompile(`^did not find expected ',' or`), nil, 0, "close the bracket, and separate its elements by commas"},
	{regexp.MustCompile(`^did not find expected alphabetic or numeric character$`), regexp.MustCompile(`(?:^|[\s\[,])(\*[^\s"',\]}]+)`), 1,
		"text that begins with * needs quotation marks: write %s"},
	{regexp.MustCompile(`^found character that cannot start any token$`), regexp.MustCompile("[:\\[,-]\\s*([@`%][^\\s\"',\\]}]*)"), 1, "text that begins with @, ` or % needs quotation marks: write %s"},
	{regexp.MustCompile(`^did not find expected node content$`), regexp.MustCompile(`:\s+(:\d+)`), 1, "text that begins with a colon needs quotation marks: write %s"},
	{regexp.MustCompile(`^mapping values are not allowed`), regexp.MustCompile(`\w:\s+.*:(\s|$)`), 1, "a value with a colon and a space needs quotation marks"},
	{regexp.MustCompile(`^mapping values are not allowed`), nil, 0, "put a space behind each colon, and compare the indentation with that of the lines before"},
	{regexp.MustCompile(`^found unknown escape character$`), nil, 0, "use single quotation marks, or write each backslash twice"},
	{regexp.MustCompile(`^block sequence entries are not allowed`), nil, 0, "begin the list on the next line, or write it as [a, b]"},
	{regexp.MustCompile(`^found unexpected end of stream$`), nil, 0, "a quotation mark is not closed"},
}

// cureFor returns the end of a message: the likely remedy for the parser's error message at line, which
// counts from 1, or "".
func cureFor(message string, text []byte, line int) string {
	lines := from(text, line)
	for i := range cures {
		c := &cures[i]
		if !c.message.MatchString(message) {
			continue
		}
		if c.line == nil {
			return "; " + c.remedy
		}
		for _, l := range lines[:min(len(lines), c.lines)] {
			if m := c.line.FindSubmatch(l); m != nil {
				return "; " + strings.Replace(c.remedy, "%s", Quote(string(m[len(m)-1])), 1)
			}
		}
	}
	return ""
}

// farthest is the largest cure.lines: no cure searches more lines of the file.
const farthest = 1000

// from returns the lines of text from the line with the number, which counts from 1, on.
func from(text []byte, number int) (lines [][]byte) {
	for l := range bytes.Lines(text) {
		if number--; number <= 0 {
			lines = append(lines, bytes.TrimRight(l, "\r\n"))
		}
		if len(lines) == farthest {
			break
		}
	}
	return lines
}
