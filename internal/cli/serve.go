package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gate"
)

const defaultConfig = "tallygate.yaml"

func serveCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   "serve",
		Short: "Run the gate, and the issuer where one is configured",
		Long: `Serve runs the gate until it is told to stop by SIGTERM or SIGINT. Then /readyz
fails. After drain.delay (5 seconds; with SIGINT none) no new connection is taken, and
running requests have drain.timeout (20 seconds) to finish. Exit code 1 says that some
were cut. A second signal ends it at once.

The configuration and the files that it names are watched. When one changes, or at a
SIGHUP, all are read and judged anew; the gate goes by them from the next request on,
and no connection is lost. On any fault it goes on as before and says so.

The log is JSON on standard error, one line for each request. Standard output
stays empty.`,
		Example: "  tallygate serve --config /etc/tallygate/tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			// Never given up: by default the signals end a process, also one that is about
			// to end well.
			hangup, orders := make(chan os.Signal, 1), make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			signal.Notify(orders, DrainSignal)
			g, err := gate.New(file, command.ErrOrStderr())
			if err != nil {
				return withCode(exitConfiguration, err)
			}
			g.ManageProcess(hangup, orders)
			return g.Run(command.Context(), func(_, address string) (net.Listener, error) {
				return net.Listen("tcp", address)
			})
		},
	}
	configFlag(command, &file)
	return command
}

func checkCommand() *cobra.Command {
	var file string
	var online bool
	command := &cobra.Command{
		Use:   "check",
		Short: "Judge a configuration without serving it",
		Long: `Check reads the configuration and everything it names (certificates, anchors,
keys) exactly as serve does, opens no listener and sends nothing. Every fault is
listed, each with file, line and column. Exit code 3 says that there are any.

With --online it also reads what the authorization servers publish, metadata and keys,
and the revocation lists at URLs, and asks each server that is introspected about a token
that nobody has. Exit code 1 says that one of them could not be reached, does not tell what
is needed, or refuses the gate's own credentials.`,
		Example: "  tallygate check --config tallygate.yaml\n  tallygate check --online",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			s, err := gate.Load(cfg, gate.NewLog(command.ErrOrStderr(), slog.LevelWarn), nil)
			if err != nil {
				return withCode(exitConfiguration, err)
			}
			defer s.Close(nil)
			if online {
				if err := errors.Join(s.ReadOnce(command.Context()), s.Validator.CheckCredentials(command.Context())); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "%s is valid: %d APIs, %d partners, %d authorization servers\n",
				file, len(cfg.APIs), len(cfg.Partners.List), len(cfg.AuthorizationServers))
			return err
		},
	}
	configFlag(command, &file)
	command.Flags().BoolVar(&online, "online", false, "also read what is published: metadata, keys, revocation lists")
	return command
}

func configFlag(command *cobra.Command, file *string) {
	command.Flags().StringVarP(file, "config", "c", defaultConfig, "the configuration `file`")
	_ = command.MarkFlagFilename("config", "yaml", "yml")
}

func loadConfig(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, withCode(exitConfiguration, err)
	}
	return cfg, nil
}
