package cli

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gate"
)

const defaultConfig = "tallygate.yaml"

func serveCommand() *cobra.Command {
	var file string
	var probes []string
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

With --application-probe, the admin listener forwards a probe of the kubelet to an
application that listens on loopback: /application/NAME answers with the status of a GET
request for the URL (http), or 200 if a connection opens (tcp). NAME is
CONTAINER/startup, CONTAINER/liveness or CONTAINER/readiness. Inject sets the flag.

The log is JSON on standard error. Standard output stays empty.`,
		Example: "  tallygate serve --config /etc/tallygate/tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			// The handlers are never removed. Without a handler, each of these signals would end the
			// process, even during an orderly stop.
			hangup, orders := make(chan os.Signal, 1), make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			signal.Notify(orders, DrainSignal)
			forwarded, err := applicationProbes(probes)
			if err != nil {
				return withCode(exitUsage, err)
			}
			g, err := gate.New(file, command.ErrOrStderr())
			if err != nil {
				return withCode(exitConfiguration, err)
			}
			g.ForwardProbes(forwarded)
			g.ManageProcess(hangup, orders)
			return g.Run(command.Context(), func(_, address string) (net.Listener, error) {
				return net.Listen("tcp", address)
			})
		},
	}
	configFlag(command, &file)
	command.Flags().StringArrayVar(&probes, "application-probe", nil, "serve a probe of the application at /application/NAME of the admin listener: `NAME=URL` on loopback; repeatable")
	return command
}

// applicationProbes parses the values of --application-probe.
func applicationProbes(values []string) ([]gate.ApplicationProbe, error) {
	var probes []gate.ApplicationProbe
	for _, v := range values {
		p, err := gate.ParseApplicationProbe(v)
		if err != nil {
			return nil, fmt.Errorf("--application-probe %s: %w", v, err)
		}
		if slices.ContainsFunc(probes, func(other gate.ApplicationProbe) bool { return other.Name == p.Name }) {
			return nil, fmt.Errorf("--application-probe %s is there twice", p.Name)
		}
		probes = append(probes, p)
	}
	return probes, nil
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
