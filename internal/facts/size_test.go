package facts

import (
	"runtime"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
)

// T-ADD-04: Bytes counts at least the memory that the claims take, also for tokens with many
// small claims.
func TestBytes(t *testing.T) {
	long := strings.Repeat("a", 8<<10)
	for name, payload := range map[string]string{
		"plain":                  `{"iss": "https://as.example", "sub": "s", "client_id": "c", "jti": "j", "aud": "https://api.example", "scope": "a b", "exp": 1}`,
		"long subject":           `{"sub": "` + long + `"}`,
		"a thousand audiences":   `{"aud": ["a"` + strings.Repeat(`,"a"`, 1000) + `]}`,
		"a thousand scopes":      `{"scope": "a` + strings.Repeat(" a", 1000) + `"}`,
		"scopes in an array":     `{"scope": ["a"` + strings.Repeat(`,"a"`, 1000) + `]}`,
		"one scope, no others":   `{"scope": "a ` + strings.Repeat(`\\\\`, 4000) + `"}`,
		"no scope":               `{"scope": "` + strings.Repeat(`\\\\`, 4000) + `"}`,
		"one scope and spaces":   `{"scope": "a` + strings.Repeat(" ", 8000) + `"}`,
		"one scope of an array":  `{"scope": ["a", "` + strings.Repeat(`\\\\`, 4000) + `"]}`,
		"what is of no interest": `{"x": "` + long + `"}`,
	} {
		const n = 300
		kept := make([]access.Unchecked, n)
		before := heap()
		for i := range kept {
			var m Members
			if err := json.Unmarshal([]byte(payload), &m); err != nil {
				t.Fatal(err)
			}
			var err error
			if kept[i], err = m.Read("server"); err != nil {
				t.Fatal(name, err)
			}
		}
		used, counted := (heap()-before)/n+int(structBytes), Bytes(&kept[0])
		t.Logf("%s: %d bytes, counted as %d", name, used, counted)
		if used > counted || counted > 3*used+200 {
			t.Errorf("%s: Bytes = %d, want between %d and three times that", name, counted, used)
		}
		runtime.KeepAlive(kept)
	}
	if n := Bytes(&access.Unchecked{}); n < int(structBytes) {
		t.Errorf("Bytes of the zero Unchecked = %d, want at least %d", n, structBytes)
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
