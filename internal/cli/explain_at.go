package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// A timeValue is the value of a flag that takes a time in the form of RFC 3339. The zero value is the
// present.
type timeValue struct{ time.Time }

// atFlag adds the flag --at to command.
func atFlag(command *cobra.Command, at *timeValue) {
	command.Flags().Var(at, "at", "decide as of this `time`, as in 2026-11-30T03:00:00Z (default: now)")
}

// String returns the value of the flag, "" for the present.
func (t *timeValue) String() string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// Type returns the name of the value in the help text.
func (t *timeValue) Type() string { return "time" }

// Set parses a time.
func (t *timeValue) Set(s string) error {
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil || parsed.IsZero() {
		return errors.New("expected a time in the form of RFC 3339, as in 2026-11-30T03:00:00Z")
	}
	t.Time = parsed
	return nil
}
