package main

import (
	"bytes"
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

// A variant is how a peer is set up for a scenario.
type variant struct {
	algorithm    string // of the tokens, ES256 or RS256
	opaque       bool   // tokens are opaque
	applications int    // of all partners together; at least one each when zero
	cores        int    // all when zero
}

// processors returns how many the peer may use.
func (v variant) processors() int {
	if v.cores > 0 {
		return v.cores
	}
	return runtime.NumCPU()
}

// A server is a peer that runs.
type server struct {
	peer    peer
	variant variant
	address string
	root    *exec.Cmd
	output  string // the file with what it says
	ended   chan struct{}
	ready   time.Duration // how long it took until it took connections
}

// start runs a peer in a folder of its own, and returns when it takes connections.
func start(ctx context.Context, w *world, p peer, v variant) (*server, error) {
	dir, err := os.MkdirTemp(w.dir, p.name+"-")
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
	command, err := p.configure(w, v, dir, s.address)
	if err != nil {
		return nil, err
	}
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

// await returns when the server takes connections. Large configurations take their time.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address); err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return s.failed(errors.New("ended at once"))
		case <-ctx.Done():
			return s.failed(errors.New("does not listen"))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// failed adds to err the last that the server said.
func (s *server) failed(err error) error {
	said, _ := os.ReadFile(s.output)
	said = bytes.TrimSpace(said[max(0, len(said)-1000):])
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w; the last that it said: %s", err, said)
}

// stop ends the server and all processes under it.
func (s *server) stop() {
	tree, err := process.Tree(s.root.Process.Pid)
	if err != nil {
		return // it has ended
	}
	_ = s.root.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
	}
	// What is left has no more to say. A master that ended has ended its workers too, as a
	// rule; their numbers are not given to others so soon.
	for _, pid := range tree {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.ended
}

// free returns an address on loopback without a listener.
func free() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
