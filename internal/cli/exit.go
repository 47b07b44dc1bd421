package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// The exit codes, as the package comment explains them.
const (
	ExitOK            = 0
	ExitFailure       = 1
	exitUsage         = 2
	exitConfiguration = 3
	ExitRefused       = 4
)

// exitError is an error that chooses the exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// withCode returns err as one that ends the program with code, and nil for nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// exitCode returns the code that err ends the program with: the outermost one that
// was chosen, 3 for faults of the configuration, otherwise 1.
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

// report tells err to a person. Faults of the configuration stand alone, one to a
// line, so that editors find the places.
func report(stderr io.Writer, err error) {
	var faults config.Faults
	if errors.As(err, &faults) {
		fmt.Fprintln(stderr, faults)
		return
	}
	fmt.Fprintf(stderr, "tallygate: %s\n", strings.TrimSpace(err.Error()))
}
