package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
)

// logTypes are the types of the keys in docs/logs.md.
var logTypes = sync.OnceValues(func() (map[string]string, error) {
	page, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		return nil, err
	}
	_, section, _ := strings.Cut(string(page), "\n## Keys\n")
	section, _, _ = strings.Cut(section, "\n## Messages\n")
	types := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([a-z, ]+) \\|").FindAllStringSubmatch(section, -1) {
		types[m[1]] = m[2]
	}
	return types, nil
})

// checkLogSchema returns an error if a line of log is not as docs/logs.md says: a JSON object whose members
// have documented names, without doubles, and the documented types. Lines of the ACME library have further keys.
func checkLogSchema(log []byte) error {
	types, err := logTypes()
	if err != nil {
		return err
	}
	for line := range bytes.Lines(log) {
		if !bytes.HasPrefix(line, []byte("{")) || bytes.Contains(line, []byte(`"logger":`)) {
			continue // such as a line of the command that starts the gate
		}
		d := json.NewDecoder(bytes.NewReader(line))
		if _, err := d.Token(); err != nil {
			return fmt.Errorf("a line of the log is no JSON: %s", line)
		}
		seen := map[string]bool{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return fmt.Errorf("a line of the log is no JSON: %s", line)
			}
			name := fmt.Sprint(key)
			var value any
			if err := d.Decode(&value); err != nil {
				return fmt.Errorf("a line of the log is no JSON: %s", line)
			}
			if seen[name] || !hasType(value, types[name]) {
				return fmt.Errorf("docs/logs.md has the type %q for the key %s, got %v, in the line %s", types[name], name, value, line)
			}
			seen[name] = true
		}
		for _, name := range []string{"time", "level", "msg"} {
			if !seen[name] {
				return fmt.Errorf("a line of the log lacks %s: %s", name, line)
			}
		}
	}
	return nil
}

// hasType reports whether value has one of the types that docs/logs.md names.
func hasType(value any, types string) bool {
	switch value.(type) {
	case string:
		return strings.Contains(types, "text") || strings.Contains(types, "time")
	case float64:
		return strings.Contains(types, "number")
	case bool:
		return strings.Contains(types, "boolean")
	case []any, nil:
		return strings.Contains(types, "list")
	}
	return false
}
