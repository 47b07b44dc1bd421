package urlpath

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/ascii"
)

const all = EncodedSlash | Semicolon | EncodedUnreserved | NotUTF8 | OuterSpace

// Each spelling is accepted where it is allowed, alone, and refused as by DecodeSegment elsewhere.
func TestDecodeSpelled(t *testing.T) {
	for raw, want := range map[string]Decoded{
		"accounts":              {"accounts", 8, 0},
		"a%20b":                 {"a b", 3, 0},
		"GB%2F12":               {"GB/12", 5, EncodedSlash},
		"GB%2f12":               {"GB/12", 5, EncodedSlash},
		"https:%2F%2Fa.test%2F": {"https://a.test/", 15, EncodedSlash},
		"%2Fa":                  {"/a", 2, EncodedSlash},
		"1;version=2":           {"1;version=2", 1, Semicolon},
		"1%3Bb":                 {"1;b", 3, Semicolon},
		"a%7Eb":                 {"a~b", 3, EncodedUnreserved},
		"%41":                   {"A", 1, EncodedUnreserved},
		"M%FCller":              {"M\xfcller", 6, NotUTF8},
		"AB%20":                 {"AB ", 3, OuterSpace},
		"%20AB":                 {" AB", 3, OuterSpace},
		"a%2F%20b;c%7E%FF":      {"a/ b;c~\xff", 4, all},
	} {
		for allowed := range all + 1 {
			got, err := DecodeSpelled(raw, allowed)
			_, strict := DecodeSegment(raw)
			switch {
			case want.Used&^allowed == 0 && (err != nil || got != want):
				t.Errorf("DecodeSpelled(%q, %05b): got %+v, %v, want %+v", raw, allowed, got, err, want)
			case want.Used&^allowed != 0 && (!errors.Is(err, strict) || err == nil || got != Decoded{}):
				t.Errorf("DecodeSpelled(%q, %05b): got %+v, %v, want %v", raw, allowed, got, err, strict)
			}
		}
	}
}

// DecodeSpelled refuses dot segments, invalid escapes and forbidden bytes in every spelling.
func TestDecodeSpelledRefuses(t *testing.T) {
	for want, raws := range map[error][]string{
		errDotSegment: {
			".", "..", "%2e", "%2E%2e", ".%2e", "..%2F", "..%2Fadmin", "a%2F..%2Fb", "a%2F%2e%2e", "..;x", "..;", ".;x", "..%3Bx", "a%2F..;x",
			"%20..", "..%20", "%20..%20;x", "..%20;x", "%A0..", "..%A0;x", ".%2F.", "a%2F.", "%2F..", ".%FF.", "%FF..", "a%2F.%80.;x", "%FF;a%2F.%FF.",
		},
		errSegmentByte:    {`a\b`, "a/b", "a b", "\x00", "ü", "a?", "#"},
		errEscape:         {"%", "%4", "%zz", "%2F%", "%%32%66"},
		errEscapedMeaning: {"%5c", "..%5c", "a%2F%5C", "%00", "%0d%0a", "%09", "%7f", "%C2%85", "a%2F%00"},
		errDoubleEscape:   {"%25%FF2F", "%252F", "%252f", "%252e%252e", "%25%32F", "%25%32%66", "%252%46", "a%2F%252Fb", "%25252F", "%253B"},
		errSegmentText:    {"%C0%AF", "%C0%AE%C0%AE", "%E0%80%AF", "%F0%80%80%AF", "a%C1%9C", "%c0%ae", "%F8%80%80%80%AF", "%FC%80%80%80%80%AF", "a%f8%80%80%80%ae"},
		errEmptyReading:   {";", ";a=b", "%3B", "a%2F;b", "%20", "%2F", "%2F%2F", "%20;a", "%A0", "a%2F%20%2Fb"},
	} {
		for _, raw := range raws {
			if got, err := DecodeSpelled(raw, all); err == nil || !errors.Is(err, want) {
				t.Errorf("DecodeSpelled(%q): got %+v, %v, want %v", raw, got, err, want)
			}
		}
	}
}

func TestReadings(t *testing.T) {
	path := []Decoded{{Text: "things"}, {Text: "a/;b"}, {" x//y;z ", len(" x//y"), all}, {Text: "\xfca", Used: NotUTF8}}
	want := [][]string{
		{"things", "a/;b", " x//y;z ", "\xfca"},
		{"things", "a/;b", " x", "", "y;z ", "\xfca"},
		{"things", "a/;b", " x", "y;z ", "\xfca"},
		{"things", "a/;b", " x//y", "\xfca"},
		{"things", "a/;b", "x", "", "y", "üa"},
		{"things", "a/;b", "x", "y", "üa"},
		{"things", "a/;b", "x", "y", "a"},
	}
	var got []string
	for reading := range Readings(path, 99) {
		got = append(got, strings.Join(reading, "|"))
	}
	for _, reading := range want {
		if !slices.Contains(got, strings.Join(reading, "|")) {
			t.Errorf("Readings: got %q, want %q among them", got, reading)
		}
	}
	if len(got) != allHabits {
		t.Errorf("Readings: got %d, want %d", len(got), allHabits)
	}
	for reading := range Readings(path, 3) {
		if len(reading) != 3 {
			t.Errorf("Readings of at most 3 segments: got %q", reading)
		}
	}
}

// A segment that DecodeSpelled accepts is decoded once, cannot be decoded again, and is a dot
// segment for no server.
func FuzzDecodeSpelled(f *testing.F) {
	for _, raw := range []string{"a%2Fb", "1;a", "%7E", "%FC", "%20a", "..;%2F", "%252F", "%C0%AF", ".%2e", "a%2F..;b"} {
		f.Add(raw, uint8(all))
	}
	f.Fuzz(func(t *testing.T, raw string, allowed uint8) {
		got, err := DecodeSpelled(raw, Spellings(allowed)&all)
		if err != nil {
			return
		}
		if got.Used&^Spellings(allowed) != 0 {
			t.Errorf("%q: got spellings %05b, want a part of %05b", raw, got.Used, allowed)
		}
		for reading := range Readings([]Decoded{got}, 1<<20) {
			for _, segment := range reading {
				for part := range strings.SplitSeq(segment, "/") {
					before, _, _ := strings.Cut(part, ";")
					if trimmed := strings.TrimSpace(before); trimmed == "." || trimmed == ".." {
						t.Errorf("%q: got the dot segment %q in a reading", raw, segment)
					}
				}
			}
		}
		if strings.ContainsAny(got.Text, "\\\x00\r\n") {
			t.Errorf("%q: got %q with a backslash or a control character", raw, got.Text)
		}
		for i := range len(got.Text) {
			if _, escape := ascii.Escaped(got.Text[i:]); escape {
				t.Errorf("%q: got %q, which decodes again", raw, got.Text)
			}
		}
	})
}
