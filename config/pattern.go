package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pattern is a route's path pattern: literal segments, {name} for exactly one
// segment, and /** at the end for one or more. It is compared with the decoded
// segments of a path, one by one, exactly; nothing in it is a regular expression.
type Pattern struct {
	text     string
	segments []Segment
}

// Segment is one segment of a [Pattern].
type Segment struct {
	Kind    SegmentKind
	Literal string // decoded; with Literal kind only
}

// SegmentKind says what a [Segment] matches.
type SegmentKind uint8

// The kinds of segment.
const (
	LiteralSegment SegmentKind = iota // exactly its text, percent-decoding aside
	AnySegment                        // {name}: one segment that is not empty
	RestSegment                       // **: one or more segments, the last of a pattern
)

// String returns the pattern as written.
func (p Pattern) String() string { return p.text }

// Segments returns the pattern's segments, which must not be changed.
func (p Pattern) Segments() []Segment { return p.segments }

// Shape returns a text that two patterns share if and only if they match the same
// paths: the names of {name} segments and the spelling of escapes are left out. It
// is a key for comparison, not for people.
func (p Pattern) Shape() string {
	var b strings.Builder
	for _, s := range p.segments {
		switch s.Kind {
		case LiteralSegment:
			b.WriteString("/=" + s.Literal) // "=", since a literal may spell "{}" or "**"
		case AnySegment:
			b.WriteString("/{}")
		case RestSegment:
			b.WriteString("/**")
		}
	}
	return b.String()
}

// UnmarshalText reads a pattern as [ParsePattern] does.
func (p *Pattern) UnmarshalText(text []byte) error {
	parsed, err := ParsePattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// ParsePattern returns the pattern that s spells. A literal is written plainly or
// percent-encoded and obeys [DecodeSegment], so that a request can match it. A
// trailing slash is a last segment that is empty: "/a" and "/a/" are two patterns.
func ParsePattern(s string) (Pattern, error) {
	if !strings.HasPrefix(s, "/") {
		return Pattern{}, errors.New(`a path pattern starts with "/"`)
	}
	p := Pattern{text: s}
	var names []string
	parts := strings.Split(s[1:], "/")
	for i, part := range parts {
		last := i == len(parts)-1
		segment, name, err := parseSegment(part)
		switch {
		case err != nil:
			return Pattern{}, fmt.Errorf("segment %q: %w", part, err)
		case part == "" && !last:
			return Pattern{}, errors.New("an empty segment stands only at the end, as a trailing slash")
		case segment.Kind == RestSegment && !last:
			return Pattern{}, errors.New("** stands only at the end, as the last segment")
		case name != "" && slices.Contains(names, name):
			return Pattern{}, fmt.Errorf("the name {%s} occurs twice", name)
		}
		names = append(names, name)
		p.segments = append(p.segments, segment)
	}
	return p, nil
}

// notPlain lists what a literal must escape although a request need not, or could
// not: whoever writes one of these means a wildcard, a regular expression or a
// query, none of which a pattern has.
const notPlain = "*?#[]^|"

// parseSegment returns the segment that part spells and, for {name}, the name.
func parseSegment(part string) (Segment, string, error) {
	if part == "**" {
		return Segment{Kind: RestSegment}, "", nil
	}
	if inner, ok := strings.CutPrefix(part, "{"); ok && strings.HasSuffix(inner, "}") {
		name := strings.TrimSuffix(inner, "}")
		if !isParameter(name) {
			return Segment{}, "", errors.New("a name in braces is letters, digits and underscores, first a letter")
		}
		return Segment{Kind: AnySegment}, name, nil
	}
	if strings.ContainsAny(part, "{}") {
		return Segment{}, "", errors.New("braces enclose a whole segment, such as {id}; elsewhere write %7B and %7D")
	}
	if i := strings.IndexAny(part, notPlain); i >= 0 {
		return Segment{}, "", fmt.Errorf("%q has no meaning in a path pattern (one segment is {name}, the rest is /**); for the character itself write %%%02X", part[i], part[i])
	}
	literal, err := DecodeSegment(escapePlain(part))
	return Segment{Literal: literal}, "", err
}

func isParameter(name string) bool {
	for i, c := range []byte(name) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return name != ""
}

// escapePlain escapes the bytes that a request would have to escape, so that a
// literal may be written as people read it.
func escapePlain(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if segmentBytes[c] || c == '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
