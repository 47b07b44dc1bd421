package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A printer prints the tour, with colours on a terminal.
type printer struct {
	w      io.Writer
	colour bool
	step   int
}

func newPrinter(w io.Writer) *printer {
	s := &printer{w: w}
	if file, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		status, err := file.Stat()
		s.colour = err == nil && status.Mode()&os.ModeCharDevice != 0
	}
	return s
}

// The numbers of the colours in ECMA-48.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (s *printer) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *printer) line(format string, args ...any) {
	_, _ = fmt.Fprintf(s.w, format+"\n", args...) // a failing writer does not end the tour
}

// title begins a step.
func (s *printer) title(text string) {
	s.step++
	s.line("\n%s", s.paint(bold, fmt.Sprintf("%d. %s", s.step, text)))
}

func (s *printer) sent(text string)     { s.line("   %s %s", s.paint(cyan, "->"), text) }
func (s *printer) received(text string) { s.line("   %s %s", s.paint(cyan, "<-"), text) }

// note prints details of a request or response.
func (s *printer) note(lines ...string) {
	for _, l := range lines {
		s.line("      %s", s.paint(dim, l))
	}
}

// ok ends a step with the expected result.
func (s *printer) ok(text string) {
	s.line("   %s %s", s.paint(green, "ok"), strings.ReplaceAll(text, "\n", "\n      "))
}

// fail ends a step with an unexpected result.
func (s *printer) fail(err error) { s.line("   %s %s", s.paint(red, "UNEXPECTED"), err) }
