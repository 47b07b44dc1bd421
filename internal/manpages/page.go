package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exitStatus is the section EXIT STATUS of every page, as in the comment of cmd/tallygate.
var exitStatus = []struct{ code, meaning string }{
	{"0", "done"},
	{"1", "failed: a file, the network or a server"},
	{"2", "wrong usage: unknown command, flag or argument"},
	{"3", "invalid configuration; each fault is printed on a line as file:line:column"},
	{"4", "refused: by the authorization server, or by the decision that explain shows"},
}

// page returns the manual page of c in the language of man(7).
func page(c *cobra.Command, version, date string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 %s %s tallygate\n", quoted(strings.ToUpper(pageName(c))), quoted(date), quoted("tallygate "+version))
	section(&b, "NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", text(pageName(c)), text(strings.ToLower(c.Short[:1])+c.Short[1:]))
	section(&b, "SYNOPSIS")
	fmt.Fprintf(&b, ".B %s\n", text(c.UseLine()))
	section(&b, "DESCRIPTION")
	for n, paragraph := range strings.Split(strings.TrimSpace(c.Long), "\n\n") {
		if n > 0 {
			b.WriteString(".PP\n")
		}
		lines(&b, paragraph)
	}
	options(&b, "OPTIONS", c.NonInheritedFlags())
	options(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if c.Example != "" {
		section(&b, "EXAMPLES")
		b.WriteString(".nf\n")
		lines(&b, c.Example)
		b.WriteString(".fi\n")
	}
	section(&b, "EXIT STATUS")
	for _, s := range exitStatus {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", s.code, text(s.meaning))
	}
	if pages := related(c); len(pages) > 0 {
		section(&b, "SEE ALSO")
		for n, name := range pages {
			comma := " ,"
			if n == len(pages)-1 {
				comma = ""
			}
			fmt.Fprintf(&b, ".BR %s (1)%s\n", text(name), comma)
		}
	}
	return []byte(b.String())
}

func section(b *strings.Builder, name string) { fmt.Fprintf(b, ".SH %s\n", name) }

// options writes a section for flags, or nothing without a flag.
func options(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	section(b, title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := `\fB` + text("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			name = `\fB` + text("-"+f.Shorthand) + `\fR, ` + name
		}
		if value != "" {
			name += ` \fI` + text(value) + `\fR`
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", name, text(usage))
	})
}

// related returns the page names of the parent command of c and of its subcommands.
func related(c *cobra.Command) (names []string) {
	if c.HasParent() {
		names = append(names, pageName(c.Parent()))
	}
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			names = append(names, pageName(below))
		}
	}
	return names
}

// lines writes each line of s.
func lines(b *strings.Builder, s string) {
	for line := range strings.SplitSeq(s, "\n") {
		b.WriteString(text(line) + "\n")
	}
}

// text returns s, one line, as text that roff prints as it is. At the beginning of a line, a dot or an
// apostrophe would begin a roff request.
func text(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// quoted returns s as one argument of a request.
func quoted(s string) string { return `"` + strings.ReplaceAll(text(s), `"`, `\(dq`) + `"` }
