package urlpath

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func literal(text string) Segment { return Segment{Literal: text} }

var (
	parameter = Segment{Kind: Parameter}
	catchAll  = Segment{Kind: CatchAll}
)

func TestParsePattern(t *testing.T) {
	for pattern, want := range map[string][]Segment{
		"/":                     {literal("")},
		"/accounts":             {literal("accounts")},
		"/accounts/":            {literal("accounts"), literal("")},
		"/Accounts/{id}/events": {literal("Accounts"), parameter, literal("events")},
		"/{a}/{b_2}":            {parameter, parameter},
		"/**":                   {catchAll},
		"/{tenant}/files/**":    {parameter, literal("files"), catchAll},
		"/v1.orders":            {literal("v1.orders")}, // T-PATH-11: a dot is a dot
		"/things/42:cancel":     {literal("things"), literal("42:cancel")},
		"/Products(1)/$value":   {literal("Products(1)"), literal("$value")},
		"/gr%C3%BC%c3%9fe":      {literal("grüße")},
		"/grüße/a b":            {literal("grüße"), literal("a b")},
		"/a%20b/%2A/%7Bid%7D":   {literal("a b"), literal("*"), literal("{id}")},
		"/100%25":               {literal("100%")},
		"/...":                  {literal("...")},
	} {
		t.Run(pattern, func(t *testing.T) {
			p, err := ParsePattern(pattern)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, p.Segments()); diff != "" {
				t.Errorf("Segments() (-want +got):\n%s", diff)
			}
			if p.String() != pattern {
				t.Errorf("String() = %q, want %q", p, pattern)
			}
		})
	}
}

func TestParsePatternRefuses(t *testing.T) {
	const wholeSegment = "braces enclose a whole segment, such as {id}; elsewhere write %7B and %7D"
	const name = "a name in braces is letters, digits and underscores, first a letter"
	const other = " has no meaning in a path pattern (one segment is {name}, the rest is /**); for the character itself write "
	for pattern, want := range map[string]string{
		"":                    `a path pattern starts with "/"`,
		"accounts":            `a path pattern starts with "/"`,
		"^/foo/.*/bar$":       `a path pattern starts with "/"`,
		"https://a.test/x":    `a path pattern starts with "/"`,
		"/foo/.*/bar":         `segment ".*": '*'` + other + "%2A",
		"/foo/*":              `segment "*": '*'` + other + "%2A",
		"/foo/***":            `segment "***": '*'` + other + "%2A",
		"/orders/[0-9]+":      `segment "[0-9]+": '['` + other + "%5B",
		"/(a|b)":              `segment "(a|b)": '|'` + other + "%7C",
		"/^a":                 `segment "^a": '^'` + other + "%5E",
		"/search?q=1":         `segment "search?q=1": '?'` + other + "%3F",
		"/a#b":                `segment "a#b": '#'` + other + "%23",
		"/**/x":               "** is allowed only as the last segment",
		"/**/":                "** is allowed only as the last segment",
		"/{":                  `segment "{": ` + wholeSegment,
		"/a{b}":               `segment "a{b}": ` + wholeSegment,
		"/{a}b":               `segment "{a}b": ` + wholeSegment,
		"/{}":                 `segment "{}": ` + name,
		"/{a b}":              `segment "{a b}": ` + name,
		"/{id:[0-9]+}":        `segment "{id:[0-9]+}": ` + name,
		"/{path...}":          `segment "{path...}": ` + name,
		"/{1}":                `segment "{1}": ` + name,
		"/{a}/x/{a}":          "the name {a} occurs twice",
		"//a":                 "an empty segment is allowed only at the end, as a trailing slash",
		"/a//b":               "an empty segment is allowed only at the end, as a trailing slash",
		"/a//":                "an empty segment is allowed only at the end, as a trailing slash",
		"/a/../b":             `segment "..": ` + errDotSegment.Error(),
		"/.":                  `segment ".": ` + errDotSegment.Error(),
		"/a;v=1":              `segment "a;v=1": ` + errEscapedMeaning.Error(),
		`/a\b`:                `segment "a\\b": ` + errEscapedMeaning.Error(),
		"/a\x00":              `segment "a\x00": ` + errEscapedMeaning.Error(),
		"/a\nb":               `segment "a\nb": ` + errEscapedMeaning.Error(),
		"/a%2Fb":              `segment "a%2Fb": ` + errEscapedMeaning.Error(),
		"/100%":               `segment "100%": ` + errEscape.Error(),
		"/%252e":              `segment "%252e": ` + errDoubleEscape.Error(),
		"/%41":                `segment "%41": ` + errNeedlessEscape.Error(),
		"/\xff":               `segment "\xff": ` + errSegmentText.Error(),
		"/a ":                 `segment "a ": ` + errOuterSpace.Error(),
		"/%E3%80%80a":         `segment "%E3%80%80a": ` + errOuterSpace.Error(),
		"/{ab}/{cd}/{ab}/{x}": "the name {ab} occurs twice",
	} {
		t.Run(pattern, func(t *testing.T) {
			var p Pattern
			err := p.UnmarshalText([]byte(pattern))
			if err == nil {
				t.Fatalf("UnmarshalText(%q) set %v, want an error", pattern, p.Segments())
			}
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("UnmarshalText(%q) error (-want +got):\n%s", pattern, diff)
			}
			if p.String() != "" || p.Segments() != nil {
				t.Errorf("UnmarshalText(%q) set %q with an error, want no change", pattern, p)
			}
		})
	}
}

// Patterns on one line match the same paths; patterns on two lines never do.
func TestShape(t *testing.T) {
	groups := [][]string{
		{"/"},
		{"/a", "/a"},
		{"/A"},
		{"/a/"},
		{"/a:b", "/a%3Ab", "/a%3ab"},
		{"/ü", "/%C3%BC", "/%c3%bc"},
		{"/{id}", "/{name}", "/{x_1}"},
		{"/%7B%7D"}, // the literal {}
		{"/%7Bid%7D"},
		{"/**"},
		{"/%2A%2A"}, // the literal **
		{"/a/{b}", "/a/{c}"},
		{"/{b}/a"},
		{"/a/**"},
		{"/=a"},
	}
	for i, group := range groups {
		for j, other := range groups {
			for _, a := range group {
				for _, b := range other {
					if same := mustPattern(t, a).Shape() == mustPattern(t, b).Shape(); same != (i == j) {
						t.Errorf("%q and %q have the same shape: got %v, want %v", a, b, same, i == j)
					}
				}
			}
		}
	}
}

func mustPattern(t *testing.T, s string) Pattern {
	t.Helper()
	p, err := ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecodeSegment(t *testing.T) {
	for raw, want := range map[string]string{
		"":                         "",
		"accounts":                 "accounts",
		"Az09-._~!$&'()*+,=:@":     "Az09-._~!$&'()*+,=:@",
		"a%20b":                    "a b",
		"%2A%3F%23%5B%7B%22%3C%3A": `*?#[{"<:`,
		"gr%C3%BC%c3%9Fe":          "grüße",
		"100%25":                   "100%",
		"%25g0":                    "%g0",
		"%25%20%25":                "% %",
		"...":                      "...",
		"..a":                      "..a",
		"admin.":                   "admin.",
	} {
		if got, err := DecodeSegment(raw); err != nil || got != want {
			t.Errorf("DecodeSegment(%q) = %q, %v; want %q", raw, got, err, want)
		}
	}
}

func TestDecodeSegmentRefuses(t *testing.T) {
	for want, raws := range map[error][]string{
		errDotSegment:     {".", ".."},
		errSegmentByte:    {"a;b", `\`, `a\b`, "a/b", "a b", "\t", "\x00", "\x7f", "ü", "\xff", "a?", "#", "[a]", "{a}", "a|b", "^", "`", `"`, "<", ">"},
		errEscape:         {"%", "%4", "%zz", "%2", "a%", "%u0041", "%%", "%2g"},
		errEscapedMeaning: {"%2f", "%2F", "..%2fadmin", "%5c", "%5C", "%3b", "%00", "%0d%0a", "%09", "%1f", "%7f", "%C2%85", "%C2%80a"},
		errDoubleEscape:   {"%252e", "%252e%252e%252fadmin", "%2541", "%25252f", "%25ff"},
		errNeedlessEscape: {"%41", "%2e", "%2E%2E", ".%2e", "%2e.", "%61dmin", "%7e", "%5F", "%2d", "%39", "%25%32%65"},
		errSegmentText:    {"%ff", "%c0%af", "%C0%AE", "%E2%82", "%ED%A0%80", "%F4%90%80%80", "%80", "a%BCb"},
		errOuterSpace:     {"%20", "admin%20", "%20admin", "..%20", "%20..", "%C2%A0a", "a%E3%80%80"},
	} {
		for _, raw := range raws {
			if got, err := DecodeSegment(raw); !errors.Is(err, want) || got != "" {
				t.Errorf("DecodeSegment(%q) = %q, %v; want %v", raw, got, err, want)
			}
		}
	}
}

func TestDecodeSegmentAllocates(t *testing.T) {
	for raw, want := range map[string]float64{"accounts": 0, "a%20b": 1, "..%2f": 0} {
		if got := testing.AllocsPerRun(100, func() { _, _ = DecodeSegment(raw) }); got > want {
			t.Errorf("DecodeSegment(%q): got %v allocations, want %v", raw, got, want)
		}
	}
}

// A request can match each literal that a pattern accepts: the shortest canonical spelling of
// the literal decodes to the same text.
func FuzzParsePattern(f *testing.F) {
	seeds := []string{"/", "/a/{b}/**", "/%C3%BC/", "/a b", "/{a}/{a}", "/..", "/%252e", "/a;b", "/**/", "x"}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		for i, segment := range p.Segments() {
			if segment.Kind != Literal {
				continue
			}
			got, err := DecodeSegment(escapePlain(strings.ReplaceAll(segment.Literal, "%", "%25")))
			if err != nil || got != segment.Literal {
				t.Errorf("%q: DecodeSegment of the escaped literal = %q, %v, want %q", s, got, err, segment.Literal)
			}
			if strings.ContainsAny(segment.Literal, `/\;`) || slices.Contains([]string{".", ".."}, segment.Literal) {
				t.Errorf("%q: got the literal %q, which two servers may read differently", s, segment.Literal)
			}
			if segment.Literal == "" && i < len(p.Segments())-1 {
				t.Errorf("%q: got an empty segment at %d, want one only at the end", s, i)
			}
		}
		again, err := ParsePattern(p.String())
		if err != nil || again.Shape() != p.Shape() {
			t.Errorf("ParsePattern of %q again: got shape %q, %v, want %q", s, again.Shape(), err, p.Shape())
		}
	})
}
