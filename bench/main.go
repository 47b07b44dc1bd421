// Bench measures tallygate beside other proxies that end mutual TLS, on this machine alone. It is
// a module of its own and runs in its folder:
//
//	go run .                     everything; see -h for choices
//	go run . -quick              the ratios against nginx, in less than a minute
//	go run . -report FILE        table and chart again, from results that were kept
//
// Each peer runs as it is packaged, with the same certificates, tokens and upstream, and with
// as many workers as there are processors. A peer is measured only after it was seen to do
// its job: to let the right partner in, and to refuse what it says that it checks. One that
// is missing is named as missing.
//
// What counts is the processor time of a server's whole tree of processes for one request:
// on a shared machine no other figure holds. Peers take turns (A B A B ...); a figure is the
// median over the rounds, a ratio the median of the ratios within each round.
//
// Progress goes to standard error, the table to standard output. A full run writes
// bench/results/DATE.json, docs/performance.svg and its part of docs/performance.md.
package main

import (
	"context"
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

// run is the command with its two helpers, the load generator and the upstream, which are
// this program as processes of their own.
func run(ctx context.Context, args []string, in io.Reader, out, progress io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == "load":
		return generate(ctx, args[1], args[2], in, out)
	case len(args) == 1 && args[0] == "upstream":
		return upstream(ctx, out)
	}
	s, err := parseSettings(args, progress)
	if err != nil {
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

// settings are the command line.
type settings struct {
	scenarios, peers []string
	rounds           int
	duration         time.Duration // of one measurement
	quick            bool
	install          bool
	report           string        // a file of results
	binary           string        // of tallygate; built when empty
	idle             int           // connections in the scenario of that name
	settle           time.Duration // how long memory may settle: tallygate tidies up when 7 seconds were calm
	progress         io.Writer
}

func parseSettings(args []string, progress io.Writer) (settings, error) {
	s := settings{progress: progress, settle: 16 * time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	scenarios := flags.String("scenarios", "", "names of scenarios, with commas; none: all\n"+scenarioNames())
	peers := flags.String("peers", "", "names of peers, with commas: "+strings.Join(peerNames(), ", ")+"; none: all")
	flags.IntVar(&s.rounds, "rounds", 3, "how often each peer is measured in each scenario")
	flags.IntVar(&s.idle, "idle", 2000, "how many connections are idle")
	flags.DurationVar(&s.duration, "duration", 3*time.Second, "of each measurement")
	flags.BoolVar(&s.quick, "quick", false, "the ratios against nginx alone, with shorter measurements; writes no file")
	flags.BoolVar(&s.install, "install", false, "install missing peers from Debian's packages first")
	flags.StringVar(&s.report, "report", "", "measure nothing: write table and chart again, from this file of results")
	flags.StringVar(&s.binary, "binary", "", "the tallygate to measure; none: it is built from this tree")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 || s.rounds < 1 || s.duration <= 0 {
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

// whole tells whether the run is one to keep.
func (s settings) whole() bool { return len(s.scenarios) == 0 && len(s.peers) == 0 }

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
