package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tallygate/tallygate/internal/bypass"
)

// bypassResult is what check --bypass prints with -o json. Its keys are a public interface.
type bypassResult struct {
	Bypass []bypass.Finding `json:"bypass"`
}

// meanings has the text for each result.
var meanings = map[bypass.Result]string{
	bypass.Closed:   "closed: the connection is refused",
	bypass.Filtered: "filtered",
	bypass.HTTP:     "open: answers HTTP without a certificate",
	bypass.TLS:      "open: speaks TLS and demands no client certificate",
	bypass.Other:    "open",
	bypass.Gate:     "is the gate itself: name the port of the API",
	bypass.Unknown:  "not checked",
}

// checkBypass probes the addresses and prints the findings. The error has the exit code.
func checkBypass(ctx context.Context, addresses []string, format outputFormat, stdout io.Writer) error {
	findings, err := bypass.Check(ctx, addresses, bypass.Own())
	if err != nil {
		return withCode(exitUsage, err)
	}
	if format == jsonOutput {
		if err := writeJSON(stdout, bypassResult{findings}); err != nil {
			return err
		}
		if verdict(findings) != nil {
			return withCode(exitCode(verdict(findings)), errReported)
		}
		return nil
	}
	for _, f := range findings {
		line := f.Address + ": "
		if f.IP != "" {
			line = fmt.Sprintf("%s (%s): ", f.Address, f.IP)
		}
		line += meanings[f.Result]
		if f.Detail != "" {
			line += ": " + f.Detail
		}
		if _, err := fmt.Fprintln(stdout, line); err != nil {
			return err
		}
	}
	return verdict(findings)
}

// verdict returns nil if each address is closed or filtered. Otherwise the error has the exit code: 4 if
// an address is open, and 1 if none is open but the result of an address is unclear.
func verdict(findings []bypass.Finding) error {
	open, unclear := 0, 0
	for _, f := range findings {
		switch {
		case f.Result.Open():
			open++
		case f.Result != bypass.Closed && f.Result != bypass.Filtered:
			unclear++
		}
	}
	switch {
	case open > 0:
		return withCode(ExitRefused, fmt.Errorf("%d of %d addresses open: a client can go around the gate", open, len(findings)))
	case unclear > 0:
		return errors.New("the check is not complete")
	}
	return nil
}
