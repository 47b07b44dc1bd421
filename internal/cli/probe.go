package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// DrainSignal is the order to drain. The system lets nobody give it but the gate's own
// user; anything on the network would be open to all who share the pod or the machine.
const DrainSignal = syscall.SIGUSR1

// probeTimeout bounds one question to the admin listener.
const probeTimeout = 3 * time.Second

// A prober asks the admin listener of a running gate.
type prober struct {
	config, address string // address counts before what is configured
}

func (p *prober) flags(command *cobra.Command) {
	configFlag(command, &p.config)
	command.Flags().StringVar(&p.address, "address", "", "the admin listener's `host:port` (default: admin.address of the configuration, which then is not read)")
}

// locate makes sure that the address is known.
func (p *prober) locate() error {
	if p.address == "" {
		cfg, err := loadConfig(p.config)
		if err != nil {
			return err
		}
		p.address = string(cfg.Admin.Address)
	}
	host, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return withCode(exitUsage, fmt.Errorf("the admin listener's address: %w", err))
	}
	// A listener on every address is here too.
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip == netip.IPv4Unspecified() {
		host = "127.0.0.1"
	} else if err == nil && ip == netip.IPv6Unspecified() {
		host = "::1"
	}
	p.address = net.JoinHostPort(host, port)
	return nil
}

// errNot is that the gate says no.
var errNot = errors.New("the gate says")

// ask returns nil for an answer of 200 on path, and an error that wraps errNot for another.
func (p *prober) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // with no proxy: it is near by
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking the gate at %s: %w", p.address, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("asking the gate at %s: %w", p.address, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w %q", errNot, bytes.TrimSpace(text))
	}
	return nil
}

func healthcheckCommand() *cobra.Command {
	var p prober
	command := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running gate whether it is ready",
		Long: `Healthcheck asks for /readyz at the admin listener of the gate that runs with the
same configuration, for images that have neither a shell nor curl. Exit code 1 says that
the gate is not ready, or not there. With --address no configuration is read, which is
quicker where that is large.`,
		Example: "  tallygate healthcheck --config /etc/tallygate/tallygate.yaml\n  tallygate healthcheck --address 127.0.0.1:9090",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := p.locate(); err != nil {
				return err
			}
			if err := p.ask(command.Context(), "/readyz"); err != nil {
				return err
			}
			_, err := fmt.Fprintln(command.OutOrStdout(), "ready")
			return err
		},
	}
	p.flags(command)
	return command
}

func drainCommand() *cobra.Command {
	var p prober
	var pid int
	var wait time.Duration
	command := &cobra.Command{
		Use:   "drain",
		Short: "Take a running gate out of service",
		Long: `Drain sends a gate SIGUSR1: /readyz fails from then on, so that nothing new is sent
to it, and from the middle of drain.delay each answer ends its connection. The gate goes on
serving whoever comes until SIGTERM ends it, and does not wait for drain.delay again. It
is meant for preStop in Kubernetes, and for ExecStop of systemd with --pid $MAINPID.

With --wait it returns when the delay is over and no request is running, or when so much
time has passed; then the exit code is 1.`,
		Example: "  tallygate drain --wait 20s\n  tallygate drain --pid 4711",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if wait > 0 {
				if err := p.locate(); err != nil {
					return err
				}
			}
			if err := checkProgram(pid); err != nil {
				return err
			}
			if err := syscall.Kill(pid, DrainSignal); err != nil {
				return fmt.Errorf("telling process %d to drain: %w", pid, err)
			}
			if wait == 0 {
				return nil
			}
			return p.await(command.Context(), wait)
		},
	}
	p.flags(command)
	flags := command.Flags()
	flags.IntVar(&pid, "pid", 1, "the gate's `process`; 1 is that of a container")
	flags.DurationVar(&wait, "wait", 0, "wait until it could end without cutting a request, but not longer than this `time`")
	return command
}

// await returns nil as soon as the gate has drained.
func (p *prober) await(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err := p.ask(ctx, "/drained")
		if err == nil || ctx.Err() == nil && !errors.Is(err, errNot) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not drained within %s: %w", wait, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// checkProgram errs when process pid is another program than this one, for which the
// signal would mean the end. Where the system does not tell (/proc), nothing is checked.
func checkProgram(pid int) error {
	if pid < 1 {
		return withCode(exitUsage, errors.New("--pid is the number of one process"))
	}
	own, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return nil //nolint:nilerr // another system
	}
	its, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Errorf("there is no process %d: %w", pid, err)
	}
	if !bytes.Equal(own, its) {
		return fmt.Errorf("process %d is %s, not %s: name the gate with --pid", pid, bytes.TrimSpace(its), bytes.TrimSpace(own))
	}
	return nil
}
