package ascii

import (
	"encoding/hex"
	"strings"
	"testing"
)

// Escaped agrees with encoding/hex about every pair of bytes.
func TestEscaped(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			digits := []byte{byte(a), byte(b)}
			want, err := hex.DecodeString(string(digits))
			got, ok := Escaped("%" + string(digits) + "rest")
			if ok != (err == nil) || ok && got != want[0] {
				t.Errorf("Escaped(%%%q) = %#x, %t, want %v, %v", digits, got, ok, want, err)
			}
		}
	}
	for _, s := range []string{"", "%", "%4", "041", "4%41"} {
		if got, ok := Escaped(s); ok {
			t.Errorf("Escaped(%q) = %#x, want no escape", s, got)
		}
	}
}

func TestClasses(t *testing.T) {
	const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for c := range 256 {
		if got, want := IsAlphanumeric(byte(c)), strings.IndexByte(alphanumeric, byte(c)) >= 0; got != want {
			t.Errorf("IsAlphanumeric(%#x) = %t, want %t", c, got, want)
		}
		for d := range 256 {
			a, b := string([]byte{byte(c)}), string([]byte{byte(d)})
			letters := strings.IndexByte(alphanumeric[10:], byte(c)) >= 0
			if got, want := EqualFold(a, b), a == b || letters && c|0x20 == d|0x20 && d > 0x40; got != want {
				t.Errorf("EqualFold(%#x, %#x) = %t, want %t", c, d, got, want)
			}
		}
	}
	if EqualFold("k", "\u212a") || EqualFold("k", "kk") {
		t.Error("EqualFold takes the Kelvin sign, or two letters, for a k")
	}
}
