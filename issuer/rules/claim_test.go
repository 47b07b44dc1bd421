package rules_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
)

// claimRule returns a rule that adds a claim with this value.
func claimRule(value string) config.Governance {
	return config.Governance{Claims: []config.ClaimRule{{Name: "r", Claim: "c", Value: value}}}
}

// The limits of a claim are exactly 1,000 values and 4,096 bytes of JSON.
func TestClaimSize(t *testing.T) {
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }
	// An expression is limited to 4,096 characters too, so longer texts are built from two halves.
	twice := func(n int, value string) string { return `["` + strings.Repeat("x", n) + `"].map(x, ` + value + `)[0]` }
	tests := []struct{ name, value, error string }{
		{"text that fits", twice(2047, `x + x`), ""},
		{"text", twice(2047, `x + x + "x"`), "more than 4096 bytes"},
		{"escapes that fit", `"` + strings.Repeat("<", 682) + `"`, ""},
		{"escapes", `"` + strings.Repeat("<", 683) + `"`, "more than 4096 bytes"},
		{"key that fits", twice(2045, `{x + x: 1}`), ""},
		{"key", twice(2045, `{x + x + "x": 1}`), "more than 4096 bytes"},
		{"values that fit", list(999), ""},
		{"values", list(1000), "more than 1000 values"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := compile(t, claimRule(test.value)).Decide(input(), nil)
			if test.error == "" && err != nil || test.error != "" && (err == nil || !strings.Contains(err.Error(), test.error)) {
				t.Errorf("Decide returned %v, want %q", err, test.error)
			}
		})
	}
}

// A cheap expression may repeat one text nearly a thousand times. Its size is counted before it
// is encoded: this claim would have 17 MB of JSON.
func TestClaimIsCountedBeforeItIsMade(t *testing.T) {
	ones := "[" + strings.TrimSuffix(strings.Repeat("1,", 31), ",") + "]"
	p := compile(t, claimRule(ones+".map(a, "+ones+`.map(b, "`+strings.Repeat("<", 3000)+`"))`))
	in := input()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := p.Decide(in, nil)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "more than 4096 bytes") {
		t.Errorf("Decide returned %v, want an error about 4096 bytes", err)
	}
	if made := after.TotalAlloc - before.TotalAlloc; made > 1<<20 {
		t.Errorf("Decide allocated %d KiB for a refused claim, want 1024 at most", made>>10)
	}
}
