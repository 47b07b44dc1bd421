// Package tokens measures the token endpoint of tallygate beside Node's oidc-provider: tokens for each
// second of CPU time. `make bench-tokens` runs it and publishes the figures.
package tokens

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/bench/load"
	"github.com/tallygate/tallygate/bench/machine"
	"github.com/tallygate/tallygate/bench/process"
	"github.com/tallygate/tallygate/internal/testpostgres"
)

// The test binary starts itself as load generator.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "load" {
		if err := generate(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	testpostgres.Stop()
	os.Exit(code)
}

func generate(file, address string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var job load.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return err
	}
	job.Address = address
	return load.Run(context.Background(), job, os.Stdin, os.Stdout)
}

// A measurement is the result of one subject in one round.
type measurement struct {
	Server      string        `json:"server"`
	Format      string        `json:"format"`
	Round       int           `json:"round"`
	CPU         time.Duration `json:"cpu_ns"`                    // the CPU time of the server's processes
	DatabaseCPU time.Duration `json:"database_cpu_ns,omitempty"` // the CPU time of PostgreSQL's processes
	load.Result
}

// The token endpoint on bbolt answers the load of the benchmark.
func TestSmoke(t *testing.T) {
	env := newEnvironment(t)
	for _, s := range []subject{subjects[0], subjects[3]} {
		m := measure(t, env, s, s.start(t, env, s.Format), 200*time.Millisecond)
		if m.Done == 0 || m.CPU <= 0 || m.Latency.P50 <= 0 {
			t.Errorf("%s, %s: measured %+v, want tokens and CPU time", s.Name, s.Format, m)
		}
	}
}

// TestTokens measures all subjects in turn, round by round, and publishes the figures.
func TestTokens(t *testing.T) {
	if os.Getenv("TALLYGATE_BENCH_TOKENS") == "" {
		t.Skip("make bench-tokens runs it")
	}
	if err := machine.AllowFiles(); err != nil {
		t.Fatal(err)
	}
	env := newEnvironment(t)
	env.installNode(t)
	r := results{Date: time.Now().UTC().Truncate(time.Second), Machine: machine.This(), Rounds: 5, Duration: 3 * time.Second, Clients: clients, Versions: versions(t, env)}
	servers := make([]server, len(subjects))
	for i, s := range subjects {
		servers[i] = s.start(t, env, s.Format)
	}
	for round := 1; round <= r.Rounds; round++ {
		for i, s := range subjects {
			m := measure(t, env, s, servers[i], r.Duration)
			m.Round = round
			r.Measurements = append(r.Measurements, m)
			t.Logf("round %d  %-24s %-7s %6.0f µs CPU, %6.0f µs CPU of the database, %6.0f/s, p50 %s, p99 %s", round, s.Name, s.Format,
				m.perToken(m.CPU), m.perToken(m.DatabaseCPU), float64(m.Done)/m.Elapsed.Seconds(), m.Latency.P50, m.Latency.P99)
		}
	}
	r.publish(t)
}

// measure measures a server with one connection for each client. The load generator is a process of its
// own, whose CPU time does not count.
func measure(t *testing.T, env *environment, s subject, server server, duration time.Duration) measurement {
	t.Helper()
	job := load.Job{
		Kind: load.Forms, Name: serverName, Roots: env.root, Connections: clients, WarmUp: duration / 3, Duration: duration, Path: "/token",
		Answer: 100, // the shortest answer with a token is longer, and errors have another status
		Groups: []tls.CurveID{tls.X25519},
	}
	for i, pair := range env.pairs {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID(i)}, "scope": {"accounts:read"}, "resource": {audience}}
		job.Clients = append(job.Clients, load.Client{Certificate: pair.CertPEM(), Key: pair.KeyPEM(), Tokens: []string{form.Encode()}})
	}
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(env.dir, "job.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	generator, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(generator, "load", file, server.address)
	var complaints strings.Builder
	command.Stderr = &complaints
	orders, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = orders.Close()
		_ = command.Wait()
	}()
	answers := bufio.NewReader(out)
	line := func() []byte {
		text, err := answers.ReadBytes('\n')
		if err != nil {
			_ = orders.Close()
			_, _ = io.Copy(io.Discard, out)
			_ = command.Wait()
			t.Fatalf("%s, %s: the load generator: %v %s", s.Name, s.Format, err, &complaints)
		}
		return text
	}
	line() // ready
	m := measurement{Server: s.Name, Format: s.Format}
	own, database := cpu(t, server.process), cpu(t, server.database)
	if _, err := fmt.Fprintln(orders, "go"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line(), &m.Result); err != nil {
		t.Fatal(err)
	}
	m.CPU, m.DatabaseCPU = cpu(t, server.process)-own, cpu(t, server.database)-database
	return m
}

// cpu returns the CPU time of a process and its descendants, 0 for no process.
func cpu(t *testing.T, root int) time.Duration {
	t.Helper()
	if root == 0 {
		return 0
	}
	d, err := process.CPU(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
