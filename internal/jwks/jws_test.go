package jwks

import (
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// A token that looks like a JWT is a JWT; the server decides about all others.
func TestIsJWS(t *testing.T) {
	header := func(text string) string { return testpki.Segment([]byte(text)) + ".e30.c2ln" }
	for raw, want := range map[string]bool{
		header(`{"alg":"ES256"}`):                 true,
		header(`{}`):                              true,
		header(`{`):                               true,
		header("\r\n\t {}"):                       true,
		header(strings.Repeat(" ", 200) + "{}"):   true,
		header(`{` + strings.Repeat("\xff", 200)): true,
		header(`{"alg":"none"}`)[:len(header(`{"alg":"none"}`))-4]: true, // without a signature
		testpki.NewSigner("ES256", "k").Token(bound()):             true,

		header(`[]`):                     false,
		header(`"x"`):                    false,
		header(`x`):                      false,
		"":                               false,
		"..":                             false,
		"a.b.c":                          false,
		"mF_9.B5f-4.1JqM":                false,
		"opaque":                         false,
		header(`{}`) + ".x":              false, // four segments
		header(`{"alg":"dir"}`) + ".x.y": false, // five segments: a JWE
		"e30.e30":                        false,
		"e3+.e30.c2ln":                   false, // not base64url
	} {
		if got := IsJWS(raw); got != want {
			t.Errorf("%.60q: %t, want %t", raw, got, want)
		}
	}
	opaque, jwt := "mF_9.B5f-4.1JqM-0123456789abcdefghijklmnopq", header(`{"alg":"ES256"}`)
	if n := testing.AllocsPerRun(100, func() { IsJWS(opaque); IsJWS(jwt) }); n != 0 {
		t.Errorf("IsJWS makes %v allocations, want 0", n)
	}
}
