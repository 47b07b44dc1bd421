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
	unit     string // of what is counted: request, handshake or connection
	subjects []subject
	job      func(w *world, s subject, settings settings) load.Job
	// afresh: jobs cannot be done twice, and are made for each round.
	afresh bool
	// memory: what is measured is what connections weigh, by servers started for each round.
	memory bool
	// start: how long servers take until they serve is part of it.
	start bool
	// half: the rate is half of what the server does at its most, which is found out first.
	half bool
}

// A subject is a peer in one variant.
type subject struct {
	peer    string
	suffix  string // tells variants of one peer apart
	variant variant
}

func (s subject) label() string {
	if s.suffix == "" {
		return s.peer
	}
	return s.peer + ", " + s.suffix
}

// peerOf returns the peer's name in a label.
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

// How many connections the scenarios have.
const (
	connections = partners // one for each partner
	handshakers = 16       // at a time
	h2          = 4        // each with 32 streams
	streams     = 32
	uploaders   = 8
	fresh       = 200 // tokens for each of 64 connections, used once: 12,800 requests
)

var everyScenario = []scenario{
	{
		name: "keep-alive-es256", title: "Keep-alive, ES256", unit: "request",
		about:    "64 connections of 64 partners, each with its own token; GET with an answer of 1 KB.",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "apache", "caddy"),
		job:      keepAlive,
	},
	{
		name: "keep-alive-rs256", title: "Keep-alive, RS256", unit: "request",
		about:    "The same with tokens signed by RS256.",
		subjects: each(rs256, "tallygate", "haproxy", "apache"),
		job:      keepAlive,
	},
	{
		name: "never-seen", title: "Tokens never seen, ES256", unit: "request",
		about:    "The same, with a new token in every request.",
		subjects: each(es256, "tallygate", "haproxy"),
		afresh:   true,
		job: func(w *world, s subject, settings settings) load.Job {
			job := keepAlive(w, s, settings)
			job.Clients, job.Once = w.clients(1+fresh, w.mint(s.variant)), true
			return job
		},
	},
	{
		name: "handshake-full", title: "Full handshakes", unit: "handshake",
		about:    "TLS 1.3 with X25519 and P-256 certificates on both sides, 16 at a time, and no request after it.",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "apache", "caddy"),
		job:      func(w *world, s subject, settings settings) load.Job { return handshakes(w, s, settings, load.Full) },
	},
	{
		name: "handshake-hybrid", title: "Full handshakes with X25519MLKEM768", unit: "handshake",
		about:    "The same with the key exchange that a quantum computer does not undo, which the peers of this age do not have.",
		subjects: each(es256, "tallygate"),
		job: func(w *world, s subject, settings settings) load.Job {
			job := handshakes(w, s, settings, load.Full)
			job.Groups = []tls.CurveID{tls.X25519MLKEM768}
			return job
		},
	},
	{
		name: "handshake-resumed", title: "Resumed handshakes", unit: "handshake",
		about:    "The same from a session ticket.",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "apache", "caddy"),
		job:      func(w *world, s subject, settings settings) load.Job { return handshakes(w, s, settings, load.Resumed) },
	},
	{
		name: "latency-200", title: "Latency at 200 requests/s", unit: "request",
		about:    "Requests at planned times, over 64 connections; each time counts from the planned one.",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "caddy"),
		job:      planned,
	},
	{
		name: "latency-half", title: "Latency at half of the most", unit: "request",
		about:    "The same, at half of the requests/s that the peer answers when all 64 connections ask at once.",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "caddy"),
		job:      planned,
		half:     true,
	},
	{
		name: "idle", title: "Idle connections", unit: "connection",
		about:    "Connections that made one request each and stay (2000, unless told otherwise).",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "apache", "caddy"),
		memory:   true,
		job: func(w *world, s subject, settings settings) load.Job {
			job := keepAlive(w, s, settings)
			job.Kind, job.Connections = load.Idle, settings.idle
			return job
		},
	},
	{
		name: "http2", title: "HTTP/2", unit: "request",
		about:    fmt.Sprintf("%d connections with %d streams each.", h2, streams),
		subjects: each(es256, "tallygate", "nginx", "haproxy", "apache", "caddy"),
		job: func(w *world, s subject, settings settings) load.Job {
			job := keepAlive(w, s, settings)
			job.Kind, job.Connections, job.Streams = load.Streams, h2, streams
			return job
		},
	},
	{
		name: "bodies", title: "Bodies of 1 MB", unit: "request",
		// Its transport (Go 1.19) closes the connection when the answer comes while it still
		// looks whether the request's body is longer than was said.
		about:    fmt.Sprintf("POST of 1 MB, answered with 1 MB, over %d connections. Caddy 2.6 breaks such answers off, and is left out.", uploaders),
		subjects: each(es256, "tallygate", "nginx", "haproxy", "apache"),
		job: func(w *world, s subject, settings settings) load.Job {
			job := keepAlive(w, s, settings)
			job.Connections, job.Method, job.Path, job.Body, job.Answer = uploaders, "POST", "/documents/7", 1<<20, largeAnswer
			return job
		},
	},
	{
		name: "introspected", title: "Introspected tokens, on a hit", unit: "request",
		about:    "Opaque tokens, of which the authorization server was asked before.",
		subjects: each(variant{algorithm: "ES256", opaque: true}, "tallygate"),
		job:      keepAlive,
	},
	{
		name: "growth", title: "Growth", unit: "request",
		about:    "As many applications as said, each with a token that is remembered, and all of them in turn.",
		start:    true,
		subjects: growth(1, 100, 10_000, 100_000),
		job: func(w *world, s subject, settings settings) load.Job {
			job := keepAlive(w, s, settings)
			job.Clients = nil
			for i, l := range w.listed(s.variant) {
				p := w.of(s.variant)[i]
				c := p.client()
				for n := range l.Applications {
					c.Tokens = append(c.Tokens, w.token(s.variant.algorithm, p, n))
				}
				job.Clients = append(job.Clients, c)
			}
			return job
		},
	},
	{
		name: "cores", title: "One core", unit: "request",
		about:    "Keep-alive with ES256 once more, the peer on one processor with one worker.",
		subjects: each(variant{algorithm: "ES256", cores: 1}, "tallygate", "nginx", "haproxy", "apache", "caddy"),
		job:      keepAlive,
	},
}

func growth(sizes ...int) []subject {
	var all []subject
	for _, n := range sizes {
		all = append(all, subject{peer: "tallygate", suffix: applications(n), variant: variant{algorithm: "ES256", applications: n}})
	}
	return all
}

// applications names a size of growth.
func applications(n int) string {
	if n == 1 {
		return "1 application"
	}
	return fmt.Sprintf("%d applications", n)
}

// keepAlive is what most scenarios vary.
func keepAlive(w *world, s subject, settings settings) load.Job {
	return load.Job{
		Kind: load.Requests, Name: serverName, Roots: w.root, Clients: w.clients(1, w.mint(s.variant)), Connections: connections,
		WarmUp: settings.duration / 4, Duration: settings.duration, Method: "GET", Path: "/accounts/7", Answer: smallAnswer,
		Groups: []tls.CurveID{tls.X25519}, // which all peers have
	}
}

func handshakes(w *world, s subject, settings settings, kind load.Kind) load.Job {
	job := keepAlive(w, s, settings)
	job.Kind, job.Connections = kind, handshakers
	return job
}

// planned is an open loop. At 200 requests a second it takes four times as long as others, for
// the 99th percentile to rest on more than a few: 200/s * 12 s / 100 = 24.
func planned(w *world, s subject, settings settings) load.Job {
	job := keepAlive(w, s, settings)
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
