package jsonlimit

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	members := func(n int) string { return "{" + strings.Repeat(`"a":1,`, n-1) + `"a":1}` }
	for name, c := range map[string]struct {
		document string
		fits     bool
	}{
		"nothing":                  {"", true},
		"a text":                   {`"` + strings.Repeat("[{,", 10_000) + `"`, true},
		"quotes in a text":         {`{"a":"\"` + strings.Repeat(`[\",`, 10_000) + `\\"}`, true},
		"a backslash at the end":   {`"\`, true},
		"32 levels":                {nested(Depth), true},
		"33 levels":                {nested(Depth + 1), false},
		"33 levels behind a text":  {`{"a":"\\","b":` + nested(Depth) + `}`, false},
		"objects":                  {strings.Repeat(`{"a":`, Depth+1), false},
		"levels one after another": {"[" + strings.Repeat(nested(Depth-1)+",", 20) + "1]", true},
		"4,095 members":            {members(Values), true},
		"4,096 members":            {members(Values + 1), false},
		"elements":                 {"[" + strings.Repeat("1,", Values) + "1]", false},
		"empty objects":            {strings.Repeat("{}", Values+1), false},
		"members of many objects":  {"[" + strings.Repeat(`{"a":1,"b":2},`, Values/2) + "1]", false},
	} {
		if err := Check([]byte(c.document)); (err == nil) != c.fits {
			t.Errorf("Check of %s: %v", name, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = Check([]byte(`{"a":[1,2,{"b":"c"}]}`)) }); n > 1 {
		t.Errorf("Check makes %v allocations, want at most the one of the conversion", n)
	}
}

// A document that passes has at most Depth levels for the standard decoder.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"a":[1,2,{"b":"\"c"}]}`))
	f.Add([]byte(strings.Repeat("[", 40)))
	f.Fuzz(func(t *testing.T, document []byte) {
		var v any
		if Check(document) != nil || json.Unmarshal(document, &v) != nil {
			return
		}
		levels, values := size(v)
		if levels > Depth || values > 2*Values {
			t.Errorf("Check passes %q with %d levels and %d values", document, levels, values)
		}
	})
}

func size(v any) (levels, values int) {
	var parts []any
	switch v := v.(type) {
	case []any:
		parts = v
	case map[string]any:
		for _, part := range v {
			parts = append(parts, part)
		}
	default:
		return 0, 1
	}
	for _, part := range parts {
		l, n := size(part)
		levels, values = max(levels, l), values+n
	}
	return levels + 1, values + 1
}
