package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// The exit codes. The comment of cmd/tallygate describes them.
const (
	ExitOK            = 0
	ExitFailure       = 1
	exitUsage         = 2
	exitConfiguration = 3
	ExitRefused       = 4
)

// An exitError is an error with an exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// withCode returns err with an exit code, and nil for nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// exitCode returns the exit code for err: the code of the outermost exitError, 3 for faults of the
// configuration, otherwise 1.
func exitCode(err error) int {
	var chosen *exitError
	var faults config.Faults
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &chosen):
		return chosen.code
	case errors.As(err, &faults):
		return exitConfiguration
	}
	return ExitFailure
}

// errReported is the error of a command that has already printed the fault.
var errReported = errors.New("reported")

// report prints err, except errReported. Faults of the configuration are printed alone, one per line, so that editors
// can jump to their positions.
func report(stderr io.Writer, err error) {
	var faults config.Faults
	if errors.Is(err, errReported) {
		return
	}
	if errors.As(err, &faults) {
		fmt.Fprintln(stderr, faults)
		return
	}
	fmt.Fprintf(stderr, "tallygate: %s\n", strings.TrimSpace(err.Error()))
}
