package cli

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/explain"
	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/issuer"
)

const explainTokenHelp = `Token runs the steps of the issuer's token endpoint for a described request, and prints
every governance rule with its verdict and its input. It issues no token. It reads the
configuration and its files, but not the issuer's state, so it does not know what has
been revoked. With --at, the certificate is judged and the rules are evaluated as of that
time.

Exit code 4 means that the request would be refused.`

func explainTokenCommand() *cobra.Command {
	var file, cert, address string
	var at timeValue
	var q issuer.ExplainRequest
	command := &cobra.Command{
		Use:   "token",
		Short: "Explain how the issuer would decide a token request",
		Long:  explainTokenHelp,
		Example: "  tallygate explain token --client-id northwind-ledger --cert ledger.pem \\\n" +
			"    --scope accounts:read --address 203.0.113.7",
		Args: cobra.NoArgs,
	}
	configFlag(command, &file)
	flags := command.Flags()
	flags.StringVar(&q.ClientID, "client-id", "", "the application's client `identifier`")
	flags.StringVar(&cert, "cert", "", "PEM `file` with the client certificate and its intermediates (default: no certificate)")
	flags.StringVar(&q.Scope, "scope", "", "`scopes` asked for, with spaces between")
	flags.StringArrayVar(&q.Resources, "resource", nil, "`URI` of a resource asked for; may be repeated")
	flags.StringVar(&address, "address", "127.0.0.1", "the source `address`")
	_ = command.MarkFlagRequired("client-id") // fails only for an unknown flag
	atFlag(command, &at)
	format := outputFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		var err error
		if q.Address, err = netip.ParseAddr(address); err != nil {
			return withCode(exitUsage, fmt.Errorf("--address: %q is not an IP address", address))
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
		s, err := gate.Load(cfg, gate.NewLog(command.ErrOrStderr(), slog.LevelWarn), gate.LoadOptions{At: at.Time})
		if err != nil {
			return withCode(exitConfiguration, err)
		}
		defer s.Close()
		e := explain.NewToken(cfg, q, s.Issuer.Explain(command.Context(), q))
		e.At = at.Time
		if *format == jsonOutput {
			err = writeJSON(command.OutOrStdout(), e)
		} else {
			err = e.WriteText(command.OutOrStdout())
		}
		if err == nil && !e.Granted {
			err = withCode(ExitRefused, fmt.Errorf("refused with %s", e.Error))
		}
		return err
	}
	return command
}
