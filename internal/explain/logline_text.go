package explain

import (
	"fmt"
	"slices"
	"strings"
)

// Text returns l as text. It escapes every value, because clients chose some of them.
func (l *LogLine) Text() string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, Printable(text))
		}
	}
	line("line", strings.Join(slices.DeleteFunc([]string{l.Time, l.Level, l.Message}, func(s string) bool { return s == "" }), " "))
	for _, f := range l.Fields {
		line("", f.Key+" "+f.Value)
	}
	for _, n := range l.Named {
		if n.Position == "" {
			line(n.Kind, n.Name+" is not in this configuration")
			continue
		}
		line(n.Kind, n.Name)
		line("", "rule "+n.Position+" ("+n.Path+")")
	}
	if l.Stage.Stage != "" {
		writeStages(&b, []Stage{l.Stage})
	}
	line("means", l.Meaning)
	line("at fault", l.Advice.Fault)
	line("do", l.Advice.Do)
	line("see", l.See)
	return b.String()
}
