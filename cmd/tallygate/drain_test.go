package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/internal/cli"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// drained is a gate that a test drains.
type drained struct{ *reloading }

// newDrained starts a gate with that drain.delay and drain.timeout.
func newDrained(t *testing.T, delay, timeout time.Duration) *drained {
	t.Helper()
	d := &drained{newReloading(t)}
	d.configure("log: {level", fmt.Sprintf("drain: {delay: %s, timeout: %s}\nlog: {level", delay, timeout))
	d.serve()
	return d
}

func (d *drained) signal(s os.Signal) {
	d.t.Helper()
	d.check(d.process.Process.Signal(s))
}

// order runs a command of the gate's program, and returns its exit code and its standard error.
func (d *drained) order(args ...string) (int, string) {
	d.t.Helper()
	var words bytes.Buffer
	command := exec.Command(binary(d.t), args...)
	command.Dir, command.Stderr, command.Stdout = d.dir, &words, &words
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), words.String()
}

func (d *drained) pid() string { return strconv.Itoa(d.process.Process.Pid) }

// ended waits for the end of the process and returns the exit code.
func (d *drained) ended() int {
	d.t.Helper()
	select {
	case <-d.exited:
		code := d.process.ProcessState.ExitCode()
		d.process = nil
		return code
	case <-time.After(patience):
		d.t.Fatal("the gate does not end")
	}
	return 0
}

// becomes waits until a path of the admin listener has the status.
func (d *drained) becomes(path string, want int) {
	d.t.Helper()
	gatetest.EventuallyEqual(d.t, "status of "+path, want, func() int {
		status, _, err := d.admin(path)
		if err != nil {
			return 0
		}
		return status
	})
}

// visit sends a request on transport, and reports whether its response closes the connection.
func (d *drained) visit(transport *http.Transport) (closes bool, err error) {
	request := accountRequest(d.t.Context(), d.addresses["partners"], d.tokens["good"])
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return false, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return false, errors.New(answer.Status)
	}
	return answer.Close, nil
}

// kept returns an idle connection that has carried a request.
func (d *drained) kept() net.Conn {
	d.t.Helper()
	c, err := tls.Dial("tcp", d.addresses["partners"], d.client("northwind", "http/1.1"))
	d.check(err)
	d.t.Cleanup(func() { _ = c.Close() })
	d.check(accountRequest(d.t.Context(), d.addresses["partners"], d.tokens["good"]).Write(c))
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	d.check(err)
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	d.check(err)
	if answer.StatusCode != http.StatusOK || answer.Close {
		d.t.Fatalf("got %s, and the connection closes: %v", answer.Status, answer.Close)
	}
	return c
}

// keptHTTP2 is kept for HTTP/2.
func (d *drained) keptHTTP2() *slow {
	d.t.Helper()
	c := &slow{reloading: d.reloading}
	c.connect(false, true)
	d.t.Cleanup(func() { _ = c.conn.Close() })
	c.headers(1, "GET", true)
	if got := c.frames(); !got.answered {
		d.t.Fatal("no answer on a connection that is to be idle")
	}
	return c
}

// A draining gate is not ready, still serves, then closes connections after responses. It runs
// until it gets SIGTERM, and then stops without a second delay.
func TestDrain(t *testing.T) {
	t.Parallel()
	const delay = 4 * time.Second
	d := newDrained(t, delay, 20*time.Second)
	d.becomes("/readyz", http.StatusOK)
	if status, text, err := d.admin("/drained"); err != nil || status != http.StatusServiceUnavailable || string(text) != "serving\n" {
		t.Errorf("/drained says %d %q, %v", status, text, err)
	}
	idle, idleHTTP2 := d.kept(), d.keptHTTP2()
	transport := &http.Transport{TLSClientConfig: d.client("northwind", "http/1.1")}
	defer transport.CloseIdleConnections()
	if closes, err := d.visit(transport); err != nil || closes {
		t.Fatalf("before: the connection closes: %v, %v", closes, err)
	}

	began := time.Now()
	if code, words := d.order("drain", "--pid", d.pid(), "--config", "gate.yaml"); code != cli.ExitOK || words != "" {
		t.Fatalf("drain: %d %s", code, words)
	}
	d.becomes("/readyz", http.StatusServiceUnavailable)
	closes, err := d.visit(transport)
	if time.Since(began) < delay/2 && (err != nil || closes) {
		t.Errorf("in the first half: the connection closes: %v, %v", closes, err)
	}
	gatetest.Eventually(t, "a response closes the connection", func() bool {
		if !closes && err == nil {
			closes, err = d.visit(transport)
		}
		return closes || err != nil
	})
	if took := time.Since(began); err != nil || took < delay/2 {
		t.Errorf("the connection is closed after %s, %v", took, err)
	}
	d.becomes("/drained", http.StatusOK)
	if took := time.Since(began); took < delay {
		t.Errorf("drained after %s, the delay is %s", took, delay)
	}
	// The gate keeps no connection without a request, on which the next request could come after the end of the API.
	d.check(idle.SetReadDeadline(time.Now().Add(patience)))
	if n, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection is not closed after the delay: read %d bytes, %v", n, err)
	}
	if got := idleHTTP2.frames(); !got.goAway || got.code != http2.ErrCodeNo || got.last != 1 {
		t.Errorf("the idle connection over HTTP/2 ends with %+v, want GOAWAY after stream 1", got)
	}
	// A client that connects late is still served, and its connection is closed after the response.
	if closes, err := d.visit(transport); err != nil || !closes {
		t.Errorf("drained: the connection closes: %v, %v", closes, err)
	}
	if n, err := d.metric("tallygate_draining"); err != nil || n != 1 {
		t.Errorf("tallygate_draining is %v, %v", n, err)
	}
	d.signal(syscall.SIGTERM)
	began = time.Now()
	if code := d.ended(); code != cli.ExitOK || time.Since(began) > delay {
		t.Errorf("ended with %d after %s", code, time.Since(began))
	}
}

// drain --wait returns after the last request, or reports the timeout.
func TestDrainWaits(t *testing.T) {
	t.Parallel()
	d := newDrained(t, 100*time.Millisecond, 20*time.Second)
	d.upstream.behave("hang")
	answered := make(chan error, 1)
	transport := &http.Transport{TLSClientConfig: d.client("northwind", "http/1.1")}
	defer transport.CloseIdleConnections()
	go func() {
		_, err := d.visit(transport)
		answered <- err
	}()
	d.check(d.expect(`tallygate_requests_in_flight{listener="partners"}`, 1))
	code, words := d.order("drain", "--pid", d.pid(), "--address", d.addresses["admin"], "--wait", "2s")
	if want := "tallygate: not drained within 2s: the gate says \"draining: 1 concurrent requests\"\n"; code != cli.ExitFailure || words != want {
		t.Errorf("drain: %d %q, want %q", code, words, want)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if code, words := d.order("drain", "--pid", d.pid(), "--address", d.addresses["admin"], "--wait", "20s"); code != cli.ExitOK || words != "" {
			t.Errorf("drain: %d %s", code, words)
		}
	}()
	select {
	case <-done:
		t.Error("drain returned with a running request")
	case <-time.After(300 * time.Millisecond):
	}
	d.upstream.behave("echo")
	<-done
	d.check(<-answered)
	d.signal(syscall.SIGTERM)
	if code := d.ended(); code != cli.ExitOK {
		t.Errorf("ended with %d", code)
	}
}

// SIGTERM alone waits for drain.delay; SIGINT does not. A request that takes too long is cut off,
// and the exit code is 1.
func TestStop(t *testing.T) {
	t.Parallel()
	d := newDrained(t, time.Second, 20*time.Second)
	began := time.Now()
	d.signal(syscall.SIGTERM)
	d.becomes("/readyz", http.StatusServiceUnavailable)
	d.check(d.call([]string{"-cert", "northwind", "-token", "good", "GET", "/accounts/7"}))
	d.check(d.granted(http.StatusOK))
	if code := d.ended(); code != cli.ExitOK || time.Since(began) < time.Second {
		t.Errorf("SIGTERM: ended with %d after %s", code, time.Since(began))
	}

	d = newDrained(t, time.Hour, 20*time.Second)
	d.signal(os.Interrupt)
	if code := d.ended(); code != cli.ExitOK {
		t.Errorf("SIGINT: ended with %d", code)
	}

	d = newDrained(t, 0, 300*time.Millisecond)
	d.hang()
	d.signal(syscall.SIGTERM)
	if code := d.ended(); code != cli.ExitFailure || !bytes.Contains(d.log.Bytes(), []byte("requests were cut off after 300ms")) {
		t.Errorf("with a request that hangs: ended with %d\n%s", code, d.log.Bytes())
	}

	d = newDrained(t, time.Hour, time.Hour)
	d.hang()
	d.signal(syscall.SIGTERM)
	d.becomes("/readyz", http.StatusServiceUnavailable)
	d.signal(syscall.SIGTERM)
	if code := d.ended(); code != -1 { // by the signal
		t.Errorf("after a second signal: ended with %d", code)
	}
}

// hang sends a request that does not end.
func (d *drained) hang() {
	d.t.Helper()
	d.upstream.behave("hang")
	transport := &http.Transport{TLSClientConfig: d.client("northwind", "http/1.1"), DisableKeepAlives: true}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = d.visit(transport)
	}()
	d.t.Cleanup(func() { <-gone })
	d.check(d.expect(`tallygate_requests_in_flight{listener="partners"}`, 1))
}

// T-H2-14: an HTTP/2 connection gets GOAWAY before it is closed, also an idle connection, and its
// requests finish.
func TestStopOfHTTP2(t *testing.T) {
	t.Parallel()
	d := newDrained(t, 0, 20*time.Second)
	resting := make([]*slow, 5)
	for i := range resting {
		resting[i] = d.keptHTTP2()
	}
	busy := &slow{reloading: d.reloading}
	busy.connect(false, true)
	defer func() { _ = busy.conn.Close() }()
	d.upstream.behave("hang")
	const streams = 100
	for i := range uint32(streams) {
		busy.headers(2*i+1, "GET", true)
	}
	d.check(d.expect(`tallygate_requests_in_flight{listener="partners"}`, streams))
	d.signal(syscall.SIGTERM)
	for _, idle := range resting {
		if got := idle.frames(); !got.goAway || got.code != http2.ErrCodeNo || got.last != 1 {
			t.Errorf("an idle connection ends with %+v, want GOAWAY after stream 1", got)
		}
	}
	d.upstream.behave("echo")
	answers := 0
	for got := (frames{answered: true}); got.answered; {
		if got = busy.frames(); got.answered {
			answers++
		} else if got.last != 2*streams-1 || got.code != http2.ErrCodeNo {
			t.Errorf("the busy connection ends with %+v", got)
		}
	}
	if answers != streams {
		t.Errorf("%d of %d requests were answered", answers, streams)
	}
	if code := d.ended(); code != cli.ExitOK {
		t.Errorf("ended with %d", code)
	}
}

// frames are the frames on a connection up to the end of a response, or of the connection.
type frames struct {
	answered, goAway bool
	last             uint32
	code             http2.ErrCode
}

func (s *slow) frames() (seen frames) {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				s.t.Fatal("nothing comes")
			}
			seen.goAway, seen.last, seen.code = s.away.goAway, s.away.last, s.away.code
			return seen
		}
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			s.away = frames{goAway: true, last: f.LastStreamID, code: f.ErrCode}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				s.check(s.framer.WriteSettingsAck())
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return frames{answered: true}
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() { // the trailer
				return frames{answered: true}
			}
		}
	}
}

// drain signals only a gate, and reads only the settings that it needs.
func TestDrainOrders(t *testing.T) {
	t.Parallel()
	d := newDrained(t, 0, time.Second)
	d.becomes("/readyz", http.StatusOK)
	for want, args := range map[string][]string{
		"process 1 is ":           {"drain"},
		"there is no process ":    {"drain", "--pid", "999999999"},
		"--pid is the number":     {"drain", "--pid", "0"},
		"no such file":            {"drain", "--pid", d.pid(), "--wait", "1s", "--config", "none.yaml"},
		"the admin listener's":    {"healthcheck", "--address", "9090"},
		"connection refused":      {"healthcheck", "--address", "127.0.0.1:1"},
		"tallygate: reading conf": {"healthcheck", "--config", "none.yaml"},
	} {
		if code, words := d.order(args...); code == cli.ExitOK || !bytes.Contains([]byte(words), []byte(want)) {
			t.Errorf("%v: %d %q, want %q", args, code, words, want)
		}
	}
	_, port, err := net.SplitHostPort(d.addresses["admin"])
	d.check(err)
	for _, address := range []string{d.addresses["admin"], ":" + port, "0.0.0.0:" + port} {
		if code, words := d.order("healthcheck", "--address", address); code != cli.ExitOK || words != "ready\n" {
			t.Errorf("healthcheck of %s: %d %q", address, code, words)
		}
	}
	d.signal(cli.DrainSignal)
	d.becomes("/readyz", http.StatusServiceUnavailable)
	if code, words := d.order("healthcheck", "--address", d.addresses["admin"]); code != cli.ExitFailure || words != "tallygate: the gate says \"draining\"\n" {
		t.Errorf("healthcheck: %d %q", code, words)
	}
	// A second order changes nothing.
	d.signal(cli.DrainSignal)
	d.signal(os.Interrupt)
	if code := d.ended(); code != cli.ExitOK {
		t.Errorf("ended with %d", code)
	}
}

// A reload takes effect while the gate drains: a removed partner is refused.
func TestReloadWhileDraining(t *testing.T) {
	t.Parallel()
	d := newDrained(t, 0, time.Second)
	d.signal(cli.DrainSignal)
	d.becomes("/drained", http.StatusOK)
	d.configure("log: {level", "drain: {delay: 0s, timeout: 1s}\nlog: {level", "name: northwind", "name: northwind\n      disabled: true")
	d.await("ok", 1)
	d.check(d.call([]string{"-cert", "northwind", "-token", "good", "GET", "/accounts/7"}))
	d.check(d.refused(http.StatusForbidden, "partner_disabled", ""))
	d.check(d.stop())
}
