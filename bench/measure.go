package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/bench/load"
	"github.com/tallygate/tallygate/bench/machine"
	"github.com/tallygate/tallygate/bench/process"
)

// measure runs the chosen scenarios with the chosen peers that are installed.
func measure(ctx context.Context, s settings) (results, error) {
	dir, err := os.MkdirTemp("", "tallygate-bench-")
	if err != nil {
		return results{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // workers may run as another user
		return results{}, err
	}
	if err := machine.AllowFiles(); err != nil {
		return results{}, err
	}
	r := results{Date: time.Now().UTC().Truncate(time.Second), Machine: machine.This(), Rounds: s.rounds, Duration: s.duration, Settle: s.settle, Versions: map[string]string{}}
	binary := s.binary
	r.Versions[tallygate.name] = "given"
	if binary == "" {
		fmt.Fprintln(s.progress, "building tallygate")
		if binary, r.Versions[tallygate.name], err = build(ctx, dir); err != nil {
			return results{}, err
		}
	}
	peers := installedPeers(ctx, s, &r)
	stop, address, err := startUpstream(ctx)
	if err != nil {
		return results{}, err
	}
	defer stop()
	env, err := newEnvironment(dir, address, binary)
	if err != nil {
		return results{}, err
	}
	defer env.close()
	b := bench{settings: s, environment: env, peers: peers, results: &r}
	for _, c := range everyScenario {
		if c = s.choose(c); len(c.subjects) > 0 {
			r.Scenarios = append(r.Scenarios, c.name)
			b.runScenario(ctx, c)
		}
		if ctx.Err() != nil {
			return results{}, ctx.Err()
		}
	}
	return r, nil
}

// installedPeers returns the chosen peers that are installed, by name, and records their versions and the
// missing peers in r.
func installedPeers(ctx context.Context, s settings, r *results) map[string]peer {
	chosen := slices.DeleteFunc(slices.Clone(everyPeer), func(p peer) bool {
		return !slices.ContainsFunc(everyScenario, func(c scenario) bool {
			return slices.ContainsFunc(s.choose(c).subjects, func(x subject) bool { return x.peer == p.name })
		})
	})
	if s.install {
		install(ctx, chosen, s)
	}
	installed := map[string]peer{}
	for _, p := range chosen {
		r.Peers = append(r.Peers, p.name)
		if what := p.missing(); what != "" {
			r.Missing = append(r.Missing, p.name)
			fmt.Fprintf(s.progress, "%s is missing: no %s (%s)\n", p.name, what, p.source())
			continue
		}
		installed[p.name] = p
		if p.command != "" {
			r.Versions[p.name] = p.versionOf(ctx)
		}
	}
	return installed
}

// A bench has what all scenarios need.
type bench struct {
	settings    settings
	environment *environment
	peers       map[string]peer
	results     *results
}

// A participant is a subject that takes part in a scenario, with its server while it runs.
type participant struct {
	subject subject
	server  *server
	file    string // the file of the job
	rate    float64
	out     bool // it has failed and is not measured again
}

// runScenario measures the subjects of a scenario in turn, round by round. A subject that fails is excluded
// together with its measurements.
func (b *bench) runScenario(ctx context.Context, c scenario) {
	var all []*participant
	defer func() {
		for _, x := range all {
			x.stop()
		}
	}()
	for _, s := range c.subjects {
		if _, ok := b.peers[s.peer]; ok {
			all = append(all, &participant{subject: s})
		}
	}
	for round := 1; round <= b.settings.rounds; round++ {
		for _, x := range all {
			if x.out {
				continue
			}
			m, err := b.measureRound(ctx, c, x, round)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				b.exclude(c, x, err)
				continue
			}
			b.results.Measurements = append(b.results.Measurements, m)
			fmt.Fprintf(b.settings.progress, "%-17s round %d  %-28s %s\n", c.name, round, x.subject.label(), m)
		}
	}
}

// exclude removes a participant and its measurements from the scenario.
func (b *bench) exclude(c scenario, x *participant, err error) {
	x.out = true
	x.stop()
	text := strings.ReplaceAll(err.Error(), b.environment.dir, "…")
	fmt.Fprintf(b.settings.progress, "%-17s FAILED   %-28s %s\n", c.name, x.subject.label(), text)
	r := b.results
	r.Failures = append(r.Failures, failure{Scenario: c.name, Subject: x.subject.label(), Text: text})
	r.Measurements = slices.DeleteFunc(r.Measurements, func(m measurement) bool {
		return m.Scenario == c.name && m.Subject == x.subject.label()
	})
}

func (x *participant) stop() {
	if x.server != nil {
		x.server.stop()
		x.server = nil
	}
}

// measureRound measures a subject in one round.
func (b *bench) measureRound(ctx context.Context, c scenario, x *participant, round int) (measurement, error) {
	m := measurement{Scenario: c.name, Subject: x.subject.label(), Peer: x.subject.peer, Round: round}
	if err := b.prepare(ctx, c, x); err != nil {
		return m, err
	}
	root := x.server.root.Process.Pid
	m.Ready = x.server.ready
	if c.idle {
		defer x.stop() // memory that is freed late would count as memory at rest in the next round
		time.Sleep(b.settings.settle)
		var err error
		if m.AtRest, err = process.Memory(root); err != nil {
			return m, err
		}
	}
	g, err := startGenerator(ctx, x.file, x.server.address)
	if err != nil {
		return m, x.server.failed(err)
	}
	defer g.close()
	if c.idle {
		if m.Idle, err = b.age(ctx, root, round); err != nil {
			return m, x.server.failed(err)
		}
	}
	before, err := process.CPU(root)
	if err != nil {
		return m, err
	}
	m.Result, err = g.run()
	if err != nil {
		return m, x.server.failed(err)
	}
	after, err := process.CPU(root)
	if err != nil {
		return m, err
	}
	m.CPU, m.Rate = after-before, x.rate
	m.Memory, err = process.Memory(root)
	return m, err
}

// age measures the memory of a process tree with connections at the idle ages, from now on.
func (b *bench) age(ctx context.Context, root, round int) ([]idleMemory, error) {
	ages := b.settings.ages
	if round > 1 && len(ages) > 1 {
		ages = ages[:len(ages)-1]
	}
	var all []idleMemory
	last := time.Now()
	for _, age := range ages {
		select {
		case <-time.After(time.Until(last.Add(age))):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		memory, err := process.Memory(root)
		if err != nil {
			return nil, err
		}
		all = append(all, idleMemory{After: age, Memory: memory})
	}
	return all, nil
}

// prepare starts and verifies the server of a participant and writes its job, unless a round before has
// done so.
func (b *bench) prepare(ctx context.Context, c scenario, x *participant) error {
	if x.server == nil {
		s, err := start(ctx, b.environment, b.peers[x.subject.peer], x.subject.variant)
		if err != nil {
			return err
		}
		x.server = s
		if err := verify(ctx, b.environment, s); err != nil {
			return err
		}
	}
	if x.file == "" || c.afresh {
		return b.prepareJob(ctx, c, x)
	}
	return nil
}

// prepareJob writes the job of a participant.
func (b *bench) prepareJob(ctx context.Context, c scenario, x *participant) error {
	job := c.job(b.environment, x.subject, b.settings)
	x.file = b.environment.path("job-" + strings.ReplaceAll(x.subject.label(), " ", "-") + ".json")
	if c.half {
		most := job
		most.Kind, most.Duration = load.Requests, b.settings.duration
		if err := writeJob(x.file, most); err != nil {
			return err
		}
		g, err := startGenerator(ctx, x.file, x.server.address)
		if err != nil {
			return x.server.failed(err)
		}
		defer g.close()
		result, err := g.run()
		if err != nil {
			return x.server.failed(err)
		}
		job.Rate, job.Duration = float64(result.Done)/result.Elapsed.Seconds()/2, b.settings.duration
	}
	x.rate = job.Rate
	return writeJob(x.file, job)
}
