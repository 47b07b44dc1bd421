package explain

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/issuer"
)

// WriteTokenText writes the explanation of a token request as text. It escapes verdicts and names,
// because they quote text that the creator of the certificate chose.
func WriteTokenText(w io.Writer, e issuer.Explanation) error {
	var b strings.Builder
	for _, step := range e.Governance.Steps {
		fmt.Fprintf(&b, "%-12s %-24s %s", step.Level, step.Rule, Printable(step.Verdict))
		if step.Position != "" {
			fmt.Fprintf(&b, "  (%s)", step.Position)
		}
		b.WriteString("\n")
	}
	if saw := e.Governance.Saw; saw != nil {
		text, err := json.Marshal(saw, jsontext.WithIndent("  "))
		if err != nil {
			return err
		}
		b.WriteString("input of the rules:\n")
		for line := range strings.Lines(string(text)) { // only the line breaks of the indentation, because JSON escapes all others
			b.WriteString(Printable(strings.TrimSuffix(line, "\n")) + "\n")
		}
	}
	if e.Granted {
		fmt.Fprintf(&b, "granted: scopes %q, resources %q, for %s, bound: %t\n", e.Scopes, e.Resources, e.Lifetime, e.Bound)
	} else {
		fmt.Fprintf(&b, "refused: %q\n", e.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Printable replaces characters that do not print by JSON escapes. The result is one line. If s is
// JSON, the result is JSON with the same meaning.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
