package access

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
)

// appendixA is the thumbprint that RFC 8705 Appendix A computes.
const appendixA = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"

func TestParseThumbprint(t *testing.T) {
	raw, err := base64.RawURLEncoding.DecodeString(appendixA)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseThumbprint(appendixA)
	if err != nil || got != Thumbprint(raw) {
		t.Fatalf("ParseThumbprint = %x, %v; want %x", got, err, raw)
	}
	if got.String() != appendixA || got.Hex() != hex.EncodeToString(raw) {
		t.Errorf("String() and Hex() = %s and %s, want the text of Appendix A and its hex", got, got.Hex())
	}
	if !got.Matches(Thumbprint(raw)) {
		t.Error("Matches of a thumbprint with itself = false, want true")
	}
	other := got
	other[31] ^= 1
	if got.Matches(other) || got.Matches(Thumbprint{}) || (Thumbprint{}).Matches(got) {
		t.Error("Matches of different thumbprints = true, want false")
	}
}

func TestParseThumbprintRefuses(t *testing.T) {
	tests := map[string]string{
		"empty":               "",
		"42 characters":       appendixA[:42],
		"44 characters":       appendixA + "A",
		"padded":              appendixA + "=",
		"padding within":      appendixA[:42] + "=",
		"standard alphabet +": "+" + appendixA[1:],
		"standard alphabet /": "/" + appendixA[1:],
		"trailing bits":       appendixA[:42] + "1", // 0 and 1 differ in unused bits only
		"a line break":        appendixA[:20] + "\n" + appendixA[20:42],
		"a carriage return":   appendixA[:20] + "\r" + appendixA[20:42],
		"a space":             appendixA[:42] + " ",
		"hex":                 strings.Repeat("ab", 32),
		"43 hex digits + tab": strings.Repeat("a", 42) + "\t",
		"SHA-1":               "dC7rU5kD1FQ0pZ3XbFqkZzKc0sE",
		"all zero":            strings.Repeat("A", 43),
		"not ASCII":           strings.Repeat("é", 21) + "A",
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseThumbprint(s); err == nil {
				t.Errorf("ParseThumbprint(%q) = %s, want an error", s, got)
			}
		})
	}
}

// An accepted thumbprint has exactly one spelling, and String returns it.
func FuzzParseThumbprint(f *testing.F) {
	seeds := []string{appendixA, appendixA[:42], appendixA + "=", strings.Repeat("A", 43), strings.Repeat("_", 42) + "8", "\n"}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseThumbprint(s)
		if err == nil && got.String() != s {
			t.Errorf("ParseThumbprint(%q).String() = %q, want the same text", s, got)
		}
		if err != nil && got != (Thumbprint{}) {
			t.Errorf("ParseThumbprint(%q) failed and returned %s, want zero", s, got)
		}
	})
}

// A Thumbprint goes over the operator's socket inside claims, also the zero Thumbprint of a token
// that is not bound. Text methods on the type would change that JSON.
func TestThumbprintJSON(t *testing.T) {
	for _, want := range []Thumbprint{{}, {1, 31: 2}} {
		text, err := json.Marshal(Unchecked{Confirmation: Confirmation{Thumbprint: want}})
		if err != nil {
			t.Fatal(err)
		}
		var got Unchecked
		if err := json.Unmarshal(text, &got); err != nil || got.Confirmation.Thumbprint != want {
			t.Errorf("Unmarshal(Marshal(%v)) = %v, %v, want the same", want, got.Confirmation.Thumbprint, err)
		}
	}
}
