package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/tallygate/tallygate/bench/process"
)

// A variant is the setup of a peer for a scenario.
type variant struct {
	algorithm    string // the algorithm of the tokens, ES256 or RS256
	opaque       bool   // tokens are opaque, not JWTs
	applications int    // the number of applications of all partners together; 0 means one for each partner
	cores        int    // processors that the peer may use; 0 means all
}

// processors returns the number of processors that the peer may use.
func (v variant) processors() int {
	if v.cores > 0 {
		return v.cores
	}
	return runtime.NumCPU()
}

// A server is a running peer.
type server struct {
	peer    peer
	variant variant
	address string
	root    *exec.Cmd
	output  string // the file with its standard output and error
	ended   chan struct{}
	ready   time.Duration // from the start until it accepted connections
}

// start runs a peer in a new folder and returns when it accepts connections.
func start(ctx context.Context, env *environment, p peer, v variant) (*server, error) {
	dir, err := os.MkdirTemp(env.dir, p.name+"-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // workers may run as another user
		return nil, err
	}
	s := &server{peer: p, variant: v, output: filepath.Join(dir, "output"), ended: make(chan struct{})}
	if s.address, err = free(); err != nil {
		return nil, err
	}
	arguments, err := p.configure(env, v, dir, s.address)
	if err != nil {
		return nil, err
	}
	command := append([]string{cmp.Or(p.program(), env.tallygate)}, arguments...)
	if v.cores > 0 {
		command = append([]string{"taskset", "--cpu-list", "0-" + strconv.Itoa(v.cores-1)}, command...)
	}
	output, err := os.Create(s.output)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	s.root = exec.Command(command[0], command[1:]...)
	s.root.Dir, s.root.Stdout, s.root.Stderr = dir, output, output
	s.root.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(v.processors()), "HOME="+dir)
	started := time.Now()
	if err := s.root.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.root.Wait()
		close(s.ended)
	}()
	if err := s.await(ctx); err != nil {
		s.stop()
		return nil, err
	}
	s.ready = time.Since(started)
	return s, nil
}

// await returns when the server accepts connections. Large configurations take seconds to load.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address); err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return s.failed(errors.New("ended early"))
		case <-ctx.Done():
			return s.failed(errors.New("does not listen"))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// failed adds the end of the server's output to err.
func (s *server) failed(err error) error {
	output, _ := os.ReadFile(s.output)
	output = bytes.TrimSpace(output[max(0, len(output)-1000):])
	if len(output) == 0 {
		return err
	}
	return fmt.Errorf("%w; end of its output: %s", err, output)
}

// stop ends the server and all its descendants.
func (s *server) stop() {
	tree, err := process.Tree(s.root.Process.Pid)
	if err != nil {
		return // the server has ended
	}
	_ = s.root.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
	}
	// A master that ends usually ends its workers too. Killing the rest by their ids is safe, because
	// Linux does not reuse process ids within seconds.
	for _, pid := range tree {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.ended
}

// free returns a loopback address without a listener.
func free() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
