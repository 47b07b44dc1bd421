package explain

import (
	"fmt"
	"strings"
	"time"
)

// Text returns e as text. It escapes every name, because the creators of the certificate and of the
// token chose the names, and a terminal interprets some characters.
func (e *Explanation) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "request      %s https://%s%s\n", Printable(e.Method), Printable(e.Host), Printable(e.Path))
	writeSubject(&b, e.At, e.Certificate)
	writeStages(&b, e.Stages)
	if e.Granted {
		b.WriteString("granted: the request would be forwarded\n")
		return b.String()
	}
	fmt.Fprintf(&b, "refused: %d %s. %s\n", e.Status, e.Reason, e.Description)
	for _, also := range e.Also {
		fmt.Fprintf(&b, "would also be refused: %d %s\n", also.Status, Printable(also.Detail))
		also.writeDetails(&b)
	}
	return b.String()
}

// writeSubject writes the time of the decision, unless it is zero, and the client certificate.
func writeSubject(b *strings.Builder, at time.Time, c *Certificate) {
	if !at.IsZero() {
		fmt.Fprintf(b, "as of        %s\n", at.Format(time.RFC3339))
	}
	if c == nil {
		b.WriteString("certificate  none\n")
		return
	}
	fmt.Fprintf(b, "certificate  %s\n", c.Thumbprint)
	for _, line := range []string{
		c.Hex, "subject " + c.Subject, "issuer " + c.Issuer,
		"valid from " + c.NotBefore.Format(time.RFC3339) + " until " + c.NotAfter.Format(time.RFC3339),
	} {
		fmt.Fprintf(b, "%-12s %s\n", "", Printable(line))
	}
}

func writeStages(b *strings.Builder, stages []Stage) {
	for _, g := range stages {
		line := fmt.Sprintf("%-12s %-11s %s", g.Stage, g.Verdict, Printable(g.Detail))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		g.writeDetails(b)
	}
}

// writeDetails writes what follows the verdict of g: the compared values, the hint and the rule.
func (g *Stage) writeDetails(b *strings.Builder) {
	if g.Compared != "" {
		fmt.Fprintf(b, "%-12s %s\n", "", Printable(g.Compared))
		b.WriteString(compared("expected", g.Expected, g.ExpectedHex))
		b.WriteString(compared("got", g.Got, g.GotHex))
	}
	if g.Hint != "" {
		fmt.Fprintf(b, "%-12s hint %s\n", "", Printable(g.Hint))
	}
	if g.Position != "" {
		fmt.Fprintf(b, "%-12s rule %s (%s)\n", "", Printable(g.Position), g.Path)
	}
}

func compared(what, value, inHex string) string {
	if inHex != "" {
		value += " = " + inHex
	}
	return fmt.Sprintf("%-14s %-8s  %s\n", "", what, Printable(value))
}
