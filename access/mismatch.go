package access

// A Mismatch is the detail of a refusal by a check that compares: what of, what it would
// have taken, and what came. It is for the log and for whoever asks why; Want is from the
// configuration, the connection or the clock, Got may be a stranger's and is clipped.
type Mismatch struct {
	Of, Want, Got string
}

// Error returns all of it in one line.
func (m *Mismatch) Error() string { return m.Of + ": want " + m.Want + ", got " + m.Got }
