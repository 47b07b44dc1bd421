package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/tallygate/tallygate/bench/load"
)

// generate is the command of the load generator. It runs the job in a file against the server at address.
func generate(ctx context.Context, file, address string, in io.Reader, out io.Writer) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var job load.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return err
	}
	job.Address = address
	return load.Run(ctx, job, in, out)
}

// writeJob writes a job to a file for [generate].
func writeJob(file string, job load.Job) error {
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// A generator is a load generator with open, warm connections.
type generator struct {
	process *exec.Cmd
	orders  io.WriteCloser
	answers *bufio.Reader
	output  *strings.Builder // the text on standard error
}

// startGenerator starts the job in a file against the server at address, and returns when the connections
// are open and warm.
func startGenerator(ctx context.Context, file, address string) (*generator, error) {
	g := &generator{output: &strings.Builder{}}
	var err error
	if g.process, err = self(ctx, "load", file, address); err != nil {
		return nil, err
	}
	g.process.Stderr = g.output
	if g.orders, err = g.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := g.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.answers = bufio.NewReader(out)
	if err := g.process.Start(); err != nil {
		return nil, err
	}
	if _, err := g.answers.ReadString('\n'); err != nil {
		return nil, g.failed()
	}
	return g, nil
}

// run starts the measured part of the job and returns its result.
func (g *generator) run() (load.Result, error) {
	var result load.Result
	if _, err := fmt.Fprintln(g.orders, "go"); err != nil {
		return result, g.failed()
	}
	line, err := g.answers.ReadBytes('\n')
	if err != nil {
		return result, g.failed()
	}
	return result, json.Unmarshal(line, &result)
}

// failed returns the error that the generator printed.
func (g *generator) failed() error {
	g.close()
	return fmt.Errorf("load generator: %s", strings.TrimSpace(g.output.String()))
}

// close ends the generator and its connections.
func (g *generator) close() {
	_ = g.orders.Close()
	_ = g.process.Wait()
}

// startUpstream starts the upstream as a process and returns its address.
func startUpstream(ctx context.Context) (stop func(), address string, err error) {
	process, err := self(ctx, "upstream")
	if err != nil {
		return nil, "", err
	}
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := process.Start(); err != nil {
		return nil, "", err
	}
	stop = func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, "", fmt.Errorf("starting the upstream: %w", err)
	}
	return stop, strings.TrimSpace(line), nil
}

// self returns a command that runs this program as another process until ctx ends.
func self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, program, args...), nil
}
