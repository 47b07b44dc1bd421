package config

import (
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
)

// appendixA is the thumbprint that RFC 8705 Appendix A computes.
const appendixA = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"

// The three notations of a configuration name the same certificate, and no other text is taken.
func TestUnmarshalThumbprint(t *testing.T) {
	const digits = "0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd"
	want, err := access.ParseThumbprint(appendixA)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for i := 0; i < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	colons := strings.Join(pairs, ":")
	for _, text := range []string{appendixA, digits, strings.ToUpper(digits), colons, strings.ToUpper(colons)} {
		var got thumbprintText
		if err := got.UnmarshalText([]byte(text)); err != nil || access.Thumbprint(got) != want {
			t.Errorf("UnmarshalText(%q) set %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", appendixA + "=", appendixA[:42], appendixA[:42] + "1", appendixA + "A", strings.Repeat("A", 43), // padding, length, trailing bits, zero
		"+" + appendixA[1:], "/" + appendixA[1:], strings.Repeat("Q", 42) + "\n", " " + appendixA[1:],
		digits[:63], digits + "0", "g" + digits[1:], strings.Repeat("0", 64),
		colons + ":", ":" + colons[:94], strings.Replace(colons, ":", "-", 1), strings.Replace(colons, "80:", "8:0", 1),
	} {
		got := thumbprintText(want)
		if err := got.UnmarshalText([]byte(text)); err == nil || access.Thumbprint(got) != want {
			t.Errorf("UnmarshalText(%q) set %v, %v, want no change and an error", text, got, err)
		}
	}
}

// String and UnmarshalText are inverse.
func FuzzUnmarshalThumbprint(f *testing.F) {
	for _, s := range []string{appendixA, strings.Repeat("ab", 32), strings.Repeat("ab:", 31) + "ab", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, second thumbprintText
		if first.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := second.UnmarshalText([]byte(access.Thumbprint(first).String())); err != nil || first != second {
			t.Errorf("UnmarshalText(%q) set %v, and its String() %v, %v, want the same", text, first, second, err)
		}
	})
}
