package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/issuer"
)

const explainTokenHelp = `Token goes through the steps of the issuer's token endpoint for a request that you
describe, prints every governance rule with its verdict and what the rules saw, and
makes no token. It reads the configuration and its files, not the issuer's state: what
has been revoked it does not know.

Exit code 4 says that the request would be refused.`

func explainTokenCommand() *cobra.Command {
	var file, cert, address string
	var q issuer.ExplainRequest
	command := &cobra.Command{
		Use:   "token",
		Short: "Tell what a token request would get, and why",
		Long:  explainTokenHelp,
		Example: "  tallygate explain token --client-id northwind-ledger --cert ledger.pem \\\n" +
			"    --scope accounts:read --address 203.0.113.7",
		Args: cobra.NoArgs,
	}
	configFlag(command, &file)
	flags := command.Flags()
	flags.StringVar(&q.ClientID, "client-id", "", "the application's client `identifier`")
	flags.StringVar(&cert, "cert", "", "PEM `file` with the client certificate and its intermediates (default: none is shown)")
	flags.StringVar(&q.Scope, "scope", "", "`scopes` asked for, with spaces between")
	flags.StringArrayVar(&q.Resources, "resource", nil, "`URI` of a resource asked for; may be repeated")
	flags.StringVar(&address, "address", "127.0.0.1", "the source `address`")
	_ = command.MarkFlagRequired("client-id") // errs only for a flag that does not exist
	format := outputFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		var err error
		if q.Address, err = netip.ParseAddr(address); err != nil {
			return withCode(exitUsage, fmt.Errorf("--address: %q is no IP address", address))
		}
		if q.Chain, err = readChain(cert); err != nil {
			return err
		}
		cfg, err := loadConfig(file)
		if err != nil {
			return err
		}
		if cfg.Issuer == nil {
			return withCode(exitUsage, fmt.Errorf("%s configures no issuer", file))
		}
		s, err := load(cfg, newLog(command.ErrOrStderr(), slog.LevelWarn), nil)
		if err != nil {
			return err
		}
		defer s.close(nil)
		e := s.issuer.Explain(command.Context(), q)
		if *format == jsonOutput {
			err = writeJSON(command.OutOrStdout(), e)
		} else {
			err = writeExplanation(command.OutOrStdout(), e)
		}
		if err == nil && !e.Granted {
			err = withCode(exitRefused, fmt.Errorf("refused with %s", e.Error))
		}
		return err
	}
	return command
}

// writeExplanation writes e for a person to read. Verdicts and names hold what whoever
// made the certificate chose, and a terminal obeys some characters.
func writeExplanation(w io.Writer, e issuer.Explanation) error {
	var b strings.Builder
	for _, step := range e.Governance.Steps {
		fmt.Fprintf(&b, "%-12s %-24s %s", step.Level, step.Rule, visible(step.Verdict))
		if step.Position != "" {
			fmt.Fprintf(&b, "  (%s)", step.Position)
		}
		b.WriteString("\n")
	}
	if saw := e.Governance.Saw; saw != nil {
		var text strings.Builder
		if err := writeJSON(&text, saw); err != nil {
			return err
		}
		b.WriteString("the rules saw:\n")
		for line := range strings.Lines(text.String()) { // JSON has escaped every other line break
			b.WriteString(visible(strings.TrimSuffix(line, "\n")) + "\n")
		}
	}
	if e.Granted {
		fmt.Fprintf(&b, "granted: scopes %q, resources %q, for %s, bound: %t\n", e.Scopes, e.Resources, e.Lifetime, e.Bound)
	} else {
		fmt.Fprintf(&b, "refused: %q\n", e.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// visible returns s with the escapes of JSON in the place of what does not print. So it
// is one line, and JSON that holds what it held.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
