package cli

import (
	"io"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// A checkResult is what check prints with -o json. Its keys are a public interface.
type checkResult struct {
	File        string    `json:"file"`
	Valid       bool      `json:"valid"` // no faults; --online does not count
	Faults      []finding `json:"faults"`
	Warnings    []finding `json:"warnings"`
	NotEnforced []string  `json:"not_enforced"`
	Online      []string  `json:"online,omitempty"` // the findings of --online
}

// A finding is a fault or a warning. Without a position, line and column are left out.
type finding struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitzero"`
	Column  int    `json:"column,omitzero"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

// printJSON writes the findings as JSON, and returns the error for the exit code.
func (f *findings) printJSON(stdout io.Writer) error {
	_ = f.faults.Err() // sorts
	result := checkResult{
		File: f.file, Valid: len(f.faults) == 0, Faults: toFindings(f.faults), Warnings: toFindings(f.warnings), NotEnforced: f.notEnforced,
	}
	if f.online != nil {
		result.Online = strings.Split(f.online.Error(), "\n")
	}
	switch err := writeJSON(stdout, result); {
	case err != nil:
		return err
	case !result.Valid:
		return withCode(exitConfiguration, errReported)
	case f.online != nil:
		return withCode(ExitFailure, errReported)
	}
	return nil
}

func toFindings(faults config.Faults) []finding {
	list := make([]finding, len(faults))
	for i, f := range faults {
		list[i] = finding{Path: f.Path, Message: f.Message}
		if f.Line > 0 {
			list[i].File, list[i].Line, list[i].Column = f.File, f.Line, f.Column
		}
	}
	return list
}
