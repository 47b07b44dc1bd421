package cli

import (
	"bytes"
	"cmp"
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

// DrainSignal makes a gate drain. Only root and the gate's own user can send this signal, whereas a
// network endpoint could be called by all other processes in the same pod or on the same machine.
const DrainSignal = syscall.SIGUSR1

// probeTimeout bounds one request to the admin listener.
const probeTimeout = 3 * time.Second

// A prober calls the admin listener of a running gate.
type prober struct {
	config, address string // address takes precedence over the address in the configuration file config
}

func (p *prober) flags(command *cobra.Command) {
	configFlag(command, &p.config)
	command.Flags().StringVar(&p.address, "address", "", "the admin listener's `host:port` (default: admin.address of the configuration)")
}

// locate sets the address from the configuration if no address is set.
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
	// A listener on all addresses is reached on loopback.
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip == netip.IPv4Unspecified() {
		host = "127.0.0.1"
	} else if err == nil && ip == netip.IPv6Unspecified() {
		host = "::1"
	}
	p.address = net.JoinHostPort(host, port)
	return nil
}

// errNot is returned if the gate answers with an error status.
var errNot = errors.New("the gate says")

// ask requests path from the admin listener. It returns nil for status 200, and an error that wraps
// errNot for any other status.
func (p *prober) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy, because the gate is local
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("calling the gate at %s: %w", p.address, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("calling the gate at %s: %w", p.address, err)
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
		Short: "Check whether a running gate is ready",
		Long: `Healthcheck requests /readyz from the admin listener of the gate that runs with the
same configuration. It is for images without a shell and curl. Exit code 1 means that
the gate is not ready or does not run. With --address, no configuration is read, which
is faster for a large configuration.`,
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
		Long: `Drain sends SIGUSR1 to a gate. Then /readyz fails, so that load balancers send no new
traffic, and in the second half of drain.delay each response closes its connection. The
gate serves all requests until SIGTERM, and then does not wait for drain.delay again.
Use drain for preStop in Kubernetes, and with --pid $MAINPID for ExecStop in systemd.

With --wait, drain returns when the delay is over and no request runs. After the given
time it returns with exit code 1.`,
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
	flags.IntVar(&pid, "pid", 1, "process `id` of the gate; 1 in a container")
	flags.DurationVar(&wait, "wait", 0, "wait until no request would be cut off, at most this `time`")
	return command
}

// await returns nil as soon as the gate has drained. The error after wait has the last answer of the gate,
// even if a later call was still running.
func (p *prober) await(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var last error // the last answer
	for {
		err := p.ask(ctx, "/drained")
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNot):
			last = err
		case ctx.Err() == nil:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not drained within %s: %w", wait, cmp.Or(last, err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// checkProgram returns an error if process pid runs another program than this process does, because
// DrainSignal would end that program. Without /proc, checkProgram checks nothing.
func checkProgram(pid int) error {
	if pid < 1 {
		return withCode(exitUsage, errors.New("--pid is the number of one process"))
	}
	own, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return nil //nolint:nilerr // this system has no /proc
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
