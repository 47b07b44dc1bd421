package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/store"
)

// maxReport bounds what a running issuer reports: some keys of 200 bytes each.
const maxReport = 1 << 20

// operatorSocket is where a running issuer takes orders: in the folder of its state,
// which nobody else can enter.
func operatorSocket(cfg *config.Config) string {
	return filepath.Join(string(cfg.Issuer.State), operatorSocketName)
}

const operatorSocketName = "operator.sock"

// longestSocket is how long the path of a Unix socket may be on every system: macOS takes
// 104 bytes with the one that ends it, Linux 108.
const longestSocket = 103

// checkSocket says early what bind would say late, and less clearly.
func checkSocket(path string) error {
	if len(path) > longestSocket {
		return fmt.Errorf("issuer.state: the socket in it, %q, would have a path of %d bytes, and %d is the most: choose a shorter folder", path, len(path), longestSocket)
	}
	return nil
}

// serveOperator takes orders until ctx ends.
func (g *gate) serveOperator(ctx context.Context) error {
	l, err := listenOperator(operatorSocket(g.current.Load().cfg))
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.current.Load().issuer.ServeOperator(w, r)
		}),
		ReadTimeout: operatorTimeout, WriteTimeout: operatorTimeout,
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving operators: %w", err)
	}
	return nil
}

// operatorTimeout bounds how long an order may take to come, and its report to go.
const operatorTimeout = 10 * time.Second

// listenOperator opens the socket. The state is ours by then, so one that is there was
// left by a process that was killed.
func listenOperator(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing a socket that was left: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for operators: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// An orderly says where an order goes: to the issuer of a configuration, or to that whose
// state is in a folder, whatever the configuration says by now.
type orderly struct {
	file  string
	state string
}

// flags gives command the flags that say so.
func (to *orderly) flags(command *cobra.Command) {
	configFlag(command, &to.file)
	command.Flags().StringVar(&to.state, "state", "", "the `folder` of a running issuer's state, in the place of the configuration: when that is being mended")
	_ = command.MarkFlagDirname("state") // errs only for a flag that does not exist
	command.MarkFlagsMutuallyExclusive("config", "state")
}

// order carries out o: through the running issuer where there is one, otherwise on the
// state itself, which stderr is told.
func (to *orderly) order(ctx context.Context, stderr io.Writer, o issuer.Order) (issuer.Report, error) {
	if to.state != "" {
		report, err := send(ctx, filepath.Join(to.state, operatorSocketName), o)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("no issuer runs with its state in %q", to.state)
		}
		return report, err
	}
	cfg, err := loadConfig(to.file)
	if err != nil {
		return issuer.Report{}, err
	}
	if cfg.Issuer == nil {
		return issuer.Report{}, withCode(exitUsage, fmt.Errorf("%s configures no issuer", to.file))
	}
	report, err := send(ctx, operatorSocket(cfg), o)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return report, err
	}
	// Not made here, for it would belong to the operator and not to the issuer's user.
	if !store.Exists(string(cfg.Issuer.State)) {
		return issuer.Report{}, fmt.Errorf("no issuer runs with this configuration, and there is no state in %q", cfg.Issuer.State)
	}
	fmt.Fprintf(stderr, "no issuer runs with its state in %q, so it is opened here; one that runs with another state is told nothing\n", cfg.Issuer.State)
	return orderOffline(cfg, stderr, o)
}

// orderOffline takes the state, which no running issuer has.
func orderOffline(cfg *config.Config, stderr io.Writer, o issuer.Order) (issuer.Report, error) {
	s, err := load(cfg, newLog(stderr, cfg.Log.Level), nil)
	if err != nil {
		return issuer.Report{}, err
	}
	defer s.close(nil)
	if err := s.issuer.Open(); err != nil {
		return issuer.Report{}, err
	}
	report, err := s.issuer.Do(o)
	return report, errors.Join(err, s.issuer.Close())
}

// send gives o to the issuer that listens on socket.
func send(ctx context.Context, socket string, o issuer.Order) (issuer.Report, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return issuer.Report{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://operator/", bytes.NewReader(body))
	if err != nil {
		return issuer.Report{}, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return issuer.Report{}, fmt.Errorf("asking the running issuer: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxReport))
	if err != nil {
		return issuer.Report{}, fmt.Errorf("asking the running issuer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return issuer.Report{}, withCode(exitRefused, errors.New(string(bytes.TrimSpace(answer))))
	}
	var report issuer.Report
	return report, json.Unmarshal(answer, &report)
}

func revokeCommand() *cobra.Command {
	var to orderly
	var o issuer.Order
	var token bool
	command := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke tokens of the issuer",
		Long: `Revoke ends tokens before their time: one token, all that an application or a
partner has been issued so far, or a certificate with all that is bound to it. It
asks the issuer that runs with the same configuration, or, where none does, writes to
its state. When it says so, the revocation is durable.

Tokens that are issued later count again, unless it was a certificate: that one is
refused for ever. To keep a partner out, also set "disabled" in the configuration.

While the configuration has a fault, name the folder of the running issuer's state by
--state instead.`,
		Example: "  tallygate revoke --application northwind-ledger\n  tallygate revoke --token < token.jwt",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if token {
				// From standard input: an argument would be seen by every user of the machine.
				text, err := io.ReadAll(io.LimitReader(command.InOrStdin(), maxAnswer))
				if err != nil {
					return fmt.Errorf("reading the token: %w", err)
				}
				if o.Token = string(bytes.TrimSpace(text)); o.Token == "" {
					return withCode(exitUsage, errors.New("no token on standard input"))
				}
			}
			report, err := to.order(command.Context(), command.ErrOrStderr(), o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(command.OutOrStdout(), report.Done)
			return err
		},
	}
	to.flags(command)
	flags := command.Flags()
	flags.BoolVar(&token, "token", false, "revoke the token on standard input")
	flags.StringVar(&o.Application, "application", "", "revoke what the application with this `client_id` has been issued")
	flags.StringVar(&o.Partner, "partner", "", "revoke what this `partner` has been issued")
	flags.StringVar(&o.Thumbprint, "thumbprint", "", "revoke the certificate with this `thumbprint` (base64url), for ever")
	what := []string{"token", "application", "partner", "thumbprint"}
	command.MarkFlagsOneRequired(what...)
	command.MarkFlagsMutuallyExclusive(what...)
	return command
}

func keysCommand() *cobra.Command {
	var to orderly
	command := &cobra.Command{
		Use:     "keys",
		Short:   "List and rotate the issuer's signing keys",
		Example: "  tallygate keys list",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return withCode(exitUsage, errors.New("name what to do: list or rotate"))
		},
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the keys that are published",
		Example: "  tallygate keys list --config tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return orderKeys(command, &to, issuer.Order{ListKeys: true})
		},
	}
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Sign with the next key from now on",
		Long: `Rotate lets the next key sign, which has been in the key set since the last
rotation, publishes a new next one, and keeps the old one published until the last
token that it signed has expired.`,
		Example: "  tallygate keys rotate --config tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return orderKeys(command, &to, issuer.Order{RotateKeys: true})
		},
	}
	to.flags(list)
	to.flags(rotate)
	command.AddCommand(list, rotate)
	return command
}

// orderKeys carries out o and prints the keys.
func orderKeys(command *cobra.Command, to *orderly, o issuer.Order) error {
	report, err := to.order(command.Context(), command.ErrOrStderr(), o)
	if err != nil {
		return err
	}
	return writeJSON(command.OutOrStdout(), report.Keys)
}
