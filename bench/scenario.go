package main

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/tallygate/tallygate/bench/load"
)

// A scenario is one way to use the peers.
type scenario struct {
	name     string // on the command line
	title    string // in tables
	about    string // a sentence for the report
	unit     string // what is counted: request, handshake or connection
	subjects []subject
	job      func(env *environment, s subject, settings settings) load.Job
	// afresh: a job cannot run twice, because its tokens are used up; each round needs a new job.
	afresh bool
	// idle: the scenario measures the memory of idle connections, with a new server in each round.
	idle bool
	// start: the table shows how long the server took to start.
	start bool
	// half: the rate is half of the server's highest rate, which is measured first.
	half bool
	// megabytes is the size of the streamed body; the table shows the CPU time for each megabyte.
	megabytes int
}

// A subject is a peer in a variant.
type subject struct {
	peer    string
	suffix  string // the name of a variant, for peers with several variants
	variant variant
}

func (s subject) label() string {
	if s.suffix == "" {
		return s.peer
	}
	return s.peer + ", " + s.suffix
}

// peerOf returns the name of the peer in a label.
func peerOf(label string) string {
	name, _, _ := strings.Cut(label, ",")
	return name
}

// each returns one subject for each peer.
func each(v variant, peers ...string) []subject {
	var all []subject
	for _, p := range peers {
		all = append(all, subject{peer: p, variant: v})
	}
	return all
}

var (
	es256 = variant{algorithm: "ES256"}
	rs256 = variant{algorithm: "RS256"}
)

func growth(sizes ...int) []subject {
	var all []subject
	for _, n := range sizes {
		all = append(all, subject{peer: "tallygate", suffix: applications(n), variant: variant{algorithm: "ES256", applications: n}})
	}
	return all
}

// applications names a size in the scenario of growth.
func applications(n int) string {
	if n == 1 {
		return "1 application"
	}
	return fmt.Sprintf("%d applications", n)
}

// methods returns two subjects for each peer, with GET and with POST requests.
func methods(peers ...string) []subject {
	var all []subject
	for _, p := range peers {
		for _, method := range []string{get, post} {
			all = append(all, subject{peer: p, suffix: method, variant: es256})
		}
	}
	return all
}

// keepAlive returns the job that most scenarios vary.
func keepAlive(env *environment, s subject, settings settings) load.Job {
	return load.Job{
		Kind: load.Requests, Name: serverName, Roots: env.root, Clients: env.clients(1, env.mint(s.variant)), Connections: connections,
		WarmUp: settings.duration / 4, Duration: settings.duration, Method: get, Path: "/accounts/7", Answer: smallAnswer,
		Groups: []tls.CurveID{tls.X25519}, // all peers support it
	}
}

func handshakes(env *environment, s subject, settings settings, kind load.Kind) load.Job {
	job := keepAlive(env, s, settings)
	job.Kind, job.Connections = kind, handshakers
	return job
}

// planned returns an open loop. It runs four times as long as other jobs, so that the 99th percentile at
// 200 requests/s rests on enough requests: 200/s * 12 s / 100 = 24.
func planned(env *environment, s subject, settings settings) load.Job {
	job := keepAlive(env, s, settings)
	job.Kind, job.Rate = load.Open, 200
	job.Duration = 4 * settings.duration
	return job
}

func scenarioNames() string {
	var text strings.Builder
	for _, c := range everyScenario {
		fmt.Fprintf(&text, "  %-18s %s\n", c.name, c.about)
	}
	return text.String()
}
