package access

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClip(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("a", 256)} {
		if got := Clip(s); got != s {
			t.Errorf("Clip(%q) is %q", s, got)
		}
	}
	for _, s := range []string{strings.Repeat("a", 257), strings.Repeat("é", 200), strings.Repeat("a", 255) + "世界", strings.Repeat("x", 1<<20)} {
		if got := Clip(s); len(got) > 260 || !strings.HasSuffix(got, "…") || !utf8.ValidString(got) {
			t.Errorf("Clip of %d bytes is %q", len(s), got)
		}
	}
}
