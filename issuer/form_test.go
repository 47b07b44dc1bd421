package issuer

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// A form is refused as invalid_request, or each of its parameters occurs once and has a value.
func FuzzForm(f *testing.F) {
	seeds := []string{
		"", "a=1", "a=1&b=2&scope=x+y%20z", "a=1&a=2", "a=&a=", "a", "=", "&&", "%61=1&a=1", "a=%zz", "a;b", "\xff=\x00", strings.Repeat("a&", 100),
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		parameters, err := readForm(r)
		if err != nil {
			if got := faultOf(err); got != invalidRequest {
				t.Errorf("readForm returned fault %v, want %v", got, invalidRequest)
			}
			return
		}
		found := make(map[string]int)
		for field := range strings.SplitSeq(body, "&") {
			name, value, _ := strings.Cut(field, "=")
			name, err := url.QueryUnescape(name)
			if err != nil {
				t.Fatal(err)
			}
			if value, err = url.QueryUnescape(value); err != nil {
				t.Fatal(err)
			}
			if field != "" {
				found[name]++
			}
			if name != resource && value != parameters.get(name) && field != "" {
				t.Errorf("parameter %q is %q, want %q", name, parameters[name], value)
			}
		}
		for name, value := range parameters {
			if found[name] != 1 && name != resource || slices.Contains(value, "") {
				t.Errorf("parameter %q is %q and occurs %d times, want one value", name, value, found[name])
			}
		}
	})
}
