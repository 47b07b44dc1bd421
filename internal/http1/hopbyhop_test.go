package http1

import (
	"strings"
	"testing"
)

func TestIsHopByHop(t *testing.T) {
	for _, name := range HopByHop {
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
			if !IsHopByHop(spelling) {
				t.Errorf("IsHopByHop(%q) = false, want true", spelling)
			}
		}
		for _, other := range []string{name + "s", name[1:], strings.Replace(name, "-", "_", 1) + "_"} {
			if IsHopByHop(other) {
				t.Errorf("IsHopByHop(%q) = true, want false", other)
			}
		}
	}
	for _, name := range []string{"", "Host", "Expect", "\u212aeep-alive", "Proxy-Authentication-Info", "Set-Cookie"} {
		if IsHopByHop(name) {
			t.Errorf("IsHopByHop(%q) = true, want false", name)
		}
	}
}

func TestNamedFields(t *testing.T) {
	var named NamedFields
	for _, value := range []string{"", "close, Keep-Alive,upgrade", "TE", ",\u212aey, a b"} {
		named.Add(value)
	}
	if named.names != nil {
		t.Errorf("got %v after options that name no further field, want none", named.names)
	}
	named.Add("close, X-Ticket")
	named.Add("\tx-other ")
	for name, want := range map[string]bool{"x-ticket": true, "X-TICKET": true, "X-Other": true, "X": false, "Close": false, "": false} {
		if got := named.Has(name); got != want {
			t.Errorf("Has(%q) = %t, want %t", name, got, want)
		}
	}
}
