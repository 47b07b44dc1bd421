package strictyaml

import (
	"slices"
	"strings"
	"testing"
)

func TestSuggest(t *testing.T) {
	known := []string{"listener", "authorization_servers", "apis", "partners", "identity_headers", "issuer", "admin", "log"}
	for _, tt := range []struct{ word, want string }{
		{"lisener", "listener"},                            // dropped
		{"listtener", "listener"},                          // added
		{"listemer", "listener"},                           // replaced
		{"lsitener", "listener"},                           // swapped
		{"Listener", "listener"},                           // case
		{"authorisation-servers", "authorization_servers"}, // two
		{"authorization_server", "authorization_servers"},
		{"api", "apis"},
		{"logs", "log"},
		{"isuer", "issuer"},
		{"admni", "admin"},
		{"partner", "partners"},
		{"tracing", ""},
		{"x", ""},
		{"", ""},
		{"upstreams", ""},
		{strings.Repeat("l", 1000), ""},
	} {
		if got := suggest(tt.word, known); got != tt.want {
			t.Errorf("suggest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
	if got := suggest("a", []string{strings.Repeat("a", 1000)}); got != "" {
		t.Errorf("suggest(a) with a name of 1000 letters = %q, want \"\"", got)
	}
	if got := suggest("listenr", slices.Repeat([]string{"listener"}, MaxCandidates+1)); got != "" {
		t.Errorf("suggest(listenr) with %d names = %q, want \"\"", MaxCandidates+1, got)
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "a", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3},
	} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
