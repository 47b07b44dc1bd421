package urlpath

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pattern is the path pattern of a route. It has literal segments, {name} for exactly one segment, and
// /** at its end for one or more segments. A pattern is compared with the decoded segments of a path,
// segment by segment and exactly. It is no regular expression.
type Pattern struct {
	text     string
	segments []Segment
}

// Segment is one segment of a [Pattern].
type Segment struct {
	Kind    SegmentKind
	Literal string // the decoded literal; empty unless Kind is Literal
}

// SegmentKind says what a [Segment] matches.
type SegmentKind uint8

// The kinds of segment.
const (
	Literal   SegmentKind = iota // a segment whose decoded text is the literal
	Parameter                    // {name}: one segment that is not empty
	CatchAll                     // **: one or more segments; only at the end of a pattern
)

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Segments returns the pattern's segments. The caller must not change them.
func (p Pattern) Segments() []Segment { return p.segments }

// Shape returns a key for comparing patterns: two patterns have the same key if and only if they match
// the same paths. The names of {name} segments and the spelling of escapes make no difference.
func (p Pattern) Shape() string {
	var b strings.Builder
	for _, s := range p.segments {
		switch s.Kind {
		case Literal:
			b.WriteString("/=" + s.Literal) // "=" keeps a literal "{}" or "**" apart from the other kinds
		case Parameter:
			b.WriteString("/{}")
		case CatchAll:
			b.WriteString("/**")
		}
	}
	return b.String()
}

// UnmarshalText sets p to the result of [ParsePattern]. After an error p is unchanged.
func (p *Pattern) UnmarshalText(text []byte) error {
	parsed, err := ParsePattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// ParsePattern parses a pattern. A literal is written in plain text or percent-encoded. [DecodeSegment]
// must accept the literal, because otherwise no request could match the pattern. A trailing slash is an
// empty last segment, so "/a" and "/a/" are two patterns. Errors quote the pattern.
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
			return Pattern{}, errors.New("an empty segment is allowed only at the end, as a trailing slash")
		case segment.Kind == CatchAll && !last:
			return Pattern{}, errors.New("** is allowed only as the last segment")
		case name != "" && slices.Contains(names, name):
			return Pattern{}, fmt.Errorf("the name {%s} occurs twice", name)
		}
		names = append(names, name)
		p.segments = append(p.segments, segment)
	}
	return p, nil
}

// mustEscape lists further bytes that a literal must escape, although a request may contain some of
// these bytes unescaped. An operator who writes such a byte in a pattern usually means a wildcard, a
// regular expression or a query, none of which a pattern can have.
const mustEscape = "*?#[]^|"

// parseSegment parses part, a segment of a pattern. For {name}, it also returns the name.
func parseSegment(part string) (Segment, string, error) {
	if part == "**" {
		return Segment{Kind: CatchAll}, "", nil
	}
	if inner, ok := strings.CutPrefix(part, "{"); ok && strings.HasSuffix(inner, "}") {
		name := strings.TrimSuffix(inner, "}")
		if !isParameterName(name) {
			return Segment{}, "", errors.New("a name in braces is letters, digits and underscores, first a letter")
		}
		return Segment{Kind: Parameter}, name, nil
	}
	if strings.ContainsAny(part, "{}") {
		return Segment{}, "", errors.New("braces enclose a whole segment, such as {id}; elsewhere write %7B and %7D")
	}
	if i := strings.IndexAny(part, mustEscape); i >= 0 {
		return Segment{}, "", fmt.Errorf("%q has no meaning in a path pattern (one segment is {name}, the rest is /**); for the character itself write %%%02X", part[i], part[i])
	}
	literal, err := DecodeSegment(escapePlain(part))
	return Segment{Literal: literal}, "", err
}

func isParameterName(name string) bool {
	for i, c := range []byte(name) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return name != ""
}

// escapePlain escapes the bytes that a request would have to escape. An operator can therefore write a
// literal in plain text, such as "/grüße".
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
