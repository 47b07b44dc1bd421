package access

import (
	"errors"
	"fmt"
	"strings"
)

// A Denial is the error of a check that turned a request down.
type Denial struct {
	Reason   Reason
	Server   string // as in [Decision]
	ClientID string // as in [Decision]
	Err      error  // detail for the log, may be nil
}

// Error returns the reason's label and the detail, for the log only.
func (d *Denial) Error() string {
	if d.Err == nil {
		return d.Reason.String()
	}
	return d.Reason.String() + ": " + d.Err.Error()
}

// Unwrap returns the detail.
func (d *Denial) Unwrap() error { return d.Err }

// Denyf returns a Denial for reason whose client is not known yet. format and args are the
// detail for the log. They quote a token only truncated, and never its signature.
func Denyf(reason Reason, format string, args ...any) error {
	return &Denial{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// DecisionOf returns the Decision for err. An error that wraps no Denial is a bug and
// refuses as [Undecided]; so does a Denial that claims to grant.
func DecisionOf(err error) Decision {
	var d *Denial
	if errors.As(err, &d) && d.Reason != Granted {
		return Decision{Reason: d.Reason, Server: d.Server, ClientID: d.ClientID, Err: d.Err}
	}
	return Decision{Reason: Undecided, Err: err}
}

// ReasonOf returns the reason of [DecisionOf](err).
func ReasonOf(err error) Reason { return DecisionOf(err).Reason }

// A Mismatch is the detail of a refusal by a check that compares: what of, what it would
// have taken, and what came. It is for the log and for whoever asks why; Want is from the
// configuration, the connection or the clock, Got may be a stranger's and is clipped.
type Mismatch struct {
	Name, Want, Got string
}

// Error returns all of it in one line.
func (m *Mismatch) Error() string { return m.Name + ": want " + m.Want + ", got " + m.Got }

// maxTruncated leaves room for what our own details say (two thumbprints, two times)
// and for any sane issuer or key identifier.
const maxTruncated = 256

// Truncate shortens s, which a stranger may have chosen, to what a log line should carry
// of it: 256 bytes. Whoever sends a few bytes must not make us write many.
func Truncate(s string) string {
	if len(s) <= maxTruncated {
		return s
	}
	return strings.ToValidUTF8(s[:maxTruncated], "") + "…" // a character may have been cut
}
