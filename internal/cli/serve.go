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
		Long: `Serve runs the gate until SIGTERM or SIGINT. Then /readyz fails. After drain.delay
(5 seconds; none with SIGINT) the gate accepts no new connection, and running requests
have drain.timeout (20 seconds) to finish. Exit code 1 means that requests were cut off.
A second signal ends the gate at once.

The gate watches the configuration and the files that it names. When a file changes,
and at SIGHUP, the gate reads and validates all of them. The new configuration decides
from the next request on, and connections stay open. After an error the previous
configuration stays active, and the log has the error.

The log is JSON on standard error. Standard output stays empty.`,
		Example: "  tallygate serve --config /etc/tallygate/tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			// The handlers are never removed. Without a handler, each of these signals would end the
			// process, even during an orderly stop.
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
		Short: "Validate a configuration file",
		Long: `Check reads the configuration and the files that it names (certificates, anchors,
keys) exactly as serve does. It opens no listener and sends nothing. It prints every
fault with file, line and column. Exit code 3 means that there are faults.

With --online, check also fetches metadata and keys of the authorization servers and
revocation lists at URLs, and introspects a token that does not exist at each server
with introspection. Exit code 1 means that a server could not be reached, that its
metadata lacks something, or that it refuses the gate's credentials.`,
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
			defer s.Close()
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
	command.Flags().BoolVar(&online, "online", false, "also fetch metadata, keys and revocation lists, and check credentials")
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
