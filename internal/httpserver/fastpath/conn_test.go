package fastpath

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

const get = "GET / HTTP/1.1\r\nHost: gate.test\r\n\r\n"

// next reads one answer, and reports whether that says that it is the last.
func next(t testing.TB, in *bufio.Reader, want string) (last bool) {
	t.Helper()
	a, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("instead of an answer: %v", err)
	}
	defer func() { _ = a.Body.Close() }()
	if body, err := io.ReadAll(a.Body); err != nil || string(body) != want {
		t.Fatalf("the answer is %q, %v; want %q", body, err, want)
	}
	return a.Close
}

// A client that leaves while it waits is noticed, however long the answer would take, and its
// request is cancelled.
func TestClientLeaves(t *testing.T) {
	for name, leave := range map[string]func(io.Closer) error{
		"with a farewell": func(c io.Closer) error { return c.Close() },
		"without":         func(c io.Closer) error { return c.(interface{ NetConn() net.Conn }).NetConn().Close() },
	} {
		begun, cancelled := make(chan struct{}), make(chan error, 1)
		r := newTestServer(t, func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
			cancelled <- r.Context().Err()
		}, true)
		c := r.dial(t)
		send(t, c, get)
		<-begun
		if err := leave(c); err != nil {
			t.Error(err)
		}
		if err := <-cancelled; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if o := <-r.left; o != Over {
			t.Errorf("%s: the connection is left %v", name, o)
		}
	}
}

// What a client sends while it waits is its next requests, whatever the pieces; it does not
// cancel anything.
func TestEarlyRequests(t *testing.T) {
	const patience = 5 * time.Millisecond
	var served atomic.Int64
	r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * patience)
		if r.Context().Err() != nil {
			t.Error(r.Context().Err())
		}
		served.Add(1)
		_, _ = io.WriteString(w, r.RequestURI)
	}, true)
	r.fast.Patience = patience
	for _, pieces := range [][]string{
		{"GET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"G", "ET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"G", "E", "T /2 HTTP/1.1\r\nHost: gate.test\r\n", "\r\n"},
		{"GET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\nGET /3 HTTP/1.1\r\nHost: gate.test\r\n\r\nG", "ET /4 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"\r", "\n", "\r\n", "GET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"\r\n", "GET /2 HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	} {
		for _, pause := range []time.Duration{0, patience * 3 / 2} {
			c := r.dial(t)
			in := bufio.NewReader(c)
			send(t, c, "POST /1 HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody")
			for _, piece := range pieces {
				time.Sleep(pause)
				send(t, c, piece)
			}
			for n := range 1 + strings.Count(strings.Join(pieces, ""), " HTTP/1.1") {
				next(t, in, "/"+string(rune('1'+n)))
			}
			_ = c.Close()
		}
	}
	if n := served.Load(); n != 2*(2+2+2+4+2+2) {
		t.Errorf("%d requests were served", n)
	}
}

// Serve returns an idle connection without a deadline, so that the deadline of the last answer cannot
// end later reads or writes.
func TestQuiet(t *testing.T) {
	r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/" {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(40 * time.Millisecond))
		}
	}, true)
	r.fast.Quiet = 50 * time.Millisecond
	c := r.dial(t)
	in := bufio.NewReader(c)
	begin := time.Now()
	send(t, c, get)
	next(t, in, "")
	if o := <-r.left; o != Idle || time.Since(begin) < r.fast.Quiet/2 {
		t.Errorf("after %s: %v", time.Since(begin), o)
	}
	if n := r.fast.Held(); n != 0 {
		t.Errorf("%d connections are held", n)
	}
	time.Sleep(2 * r.fast.Quiet)
	send(t, c, "GET /later HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	next(t, in, "")
}

// Close ends those that wait at once and the others with their answers, which say so.
func TestClose(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/long" {
			close(begun)
			<-end
		}
		_, _ = io.WriteString(w, "fine")
	}, true)
	waits, works := r.dial(t), r.dial(t)
	waiting, working := bufio.NewReader(waits), bufio.NewReader(works)
	send(t, waits, get)
	next(t, waiting, "fine")
	send(t, works, "GET /long HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	<-begun
	gatetest.Eventually(t, "one to wait", func() bool { return r.fast.Held() == 2 })
	r.fast.Close()
	if _, err := waiting.ReadByte(); err != io.EOF {
		t.Errorf("the one that waits ends with %v", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.fast.Wait(soon); !errors.Is(err, context.DeadlineExceeded) || r.fast.Held() != 1 {
		t.Errorf("waiting for the other: %v; %d are held", err, r.fast.Held())
	}
	close(end)
	if last := next(t, working, "fine"); !last {
		t.Error("the answer does not say that the connection ends")
	}
	if _, err := working.ReadByte(); err != io.EOF {
		t.Errorf("the other ends with %v", err)
	}
	if err := r.fast.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	late := r.dial(t)
	_, _ = io.WriteString(late, get)
	if all, err := io.ReadAll(late); err != nil || len(all) > 0 {
		t.Errorf("who comes later gets %q, %v", all, err)
	}
}

// Abort ends also those whose answers are under way.
func TestAbort(t *testing.T) {
	begun := make(chan struct{})
	r := newTestServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}, true)
	c := r.dial(t)
	send(t, c, get)
	<-begun
	r.fast.Abort()
	if err := r.fast.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if all, _ := io.ReadAll(c); len(all) > 0 {
		t.Errorf("the client gets %q", all)
	}
}

// A panic ends its own connection and is told, unless it is meant.
func TestPanic(t *testing.T) {
	r := newTestServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/meant" {
			panic(http.ErrAbortHandler)
		}
		panic("a bug")
	}, true)
	for path, told := range map[string]int{"/meant": 0, "/": 1} {
		if got := r.ask(t, "GET "+path+" HTTP/1.1\r\nHost: gate.test\r\n\r\n"); got != "" {
			t.Errorf("%s is answered %q", path, got)
		}
		if o := <-r.left; o != Over || len(r.panics) != told || told > 0 && <-r.panics != "a bug" {
			t.Errorf("%s: left %v, and %d panics are told of", path, o, len(r.panics))
		}
	}
}

// So does one outside the handler.
func TestPanicElsewhere(t *testing.T) {
	r := newTestServer(t, func(http.ResponseWriter, *http.Request) {}, true)
	r.fast.ConnContext = func(context.Context, net.Conn) context.Context { panic("a bug") }
	if got := r.ask(t, get); got != "" {
		t.Errorf("it is answered %q", got)
	}
	if o := <-r.left; o != Over || r.fast.Held() != 0 || <-r.panics != "a bug" {
		t.Errorf("left %v", o)
	}
}

// A body cannot be read after its request has ended, because its bytes then belong to the next request.
func TestBodyOutlivesItsRequest(t *testing.T) {
	bodies := make(chan io.ReadCloser, 2)
	r := newTestServer(t, func(_ http.ResponseWriter, r *http.Request) { bodies <- r.Body }, true)
	c := r.dial(t)
	in := bufio.NewReader(c)
	for range 2 {
		send(t, c, "POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody")
		next(t, in, "")
	}
	if n, err := (<-bodies).Read(make([]byte, 9)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// Where a request ends is no matter of what its handler does to it: nothing of a body is ever
// the next request.
func TestHandlerTakesBodyAway(t *testing.T) {
	var asked []string
	r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		r.Body, r.ContentLength, r.Method = http.MaxBytesReader(w, r.Body, 1), 3, "GET"
		if r.RequestURI == "/3" {
			r.Body = nil
		}
	}, true)
	const inner = "GET /smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n"
	for _, path := range []string{"/1", "/2", "/3"} {
		got := r.ask(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: gate.test\r\nContent-Length: %d\r\n\r\n%s%s", path, len(inner), inner, until))
		if n := strings.Count(got, "HTTP/1.1 200"); n != 2 {
			t.Errorf("%d answers: %q", n, got)
		}
	}
	if want := []string{"/1", "/until", "/2", "/until", "/3", "/until"}; !slices.Equal(asked, want) {
		t.Errorf("asked are %q", asked)
	}
}

// A client that takes nothing holds its answer until the deadline that the handler sets, which
// is not there for the next.
func TestWriteDeadline(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	t.Parallel()
	failed := make(chan error, 1)
	r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/short" {
			_, _ = io.WriteString(w, "fine")
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		if r.RequestURI == "/much" {
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					failed <- err
					break
				}
			}
			<-r.Context().Done()
		}
	}, true)
	c := r.dial(t)
	in := bufio.NewReader(c)
	send(t, c, get)
	next(t, in, "")
	time.Sleep(40 * time.Millisecond)
	send(t, c, "GET /short HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	next(t, in, "fine")
	send(t, c, "GET /much HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	if err := <-failed; err == nil {
		t.Error("all was written")
	}
	if o := <-r.left; o != Over {
		t.Errorf("the connection is left %v", o)
	}
}

// A short deadline is as good as a long one: each answer, and each part of one, has its time.
func TestShortWriteDeadline(t *testing.T) {
	r := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 4 {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(90 * time.Millisecond))
			_, _ = io.WriteString(w, "fine")
			flush(w)
			time.Sleep(95 * time.Millisecond)
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}, true)
	c := r.dial(t)
	send(t, c, get)
	next(t, bufio.NewReader(c), "finefinefinefine")
}

// A slow connection takes its time to set a deadline that has not passed.
type slow struct {
	net.Conn
	begun chan struct{}
	by    time.Time
}

func (s *slow) SetWriteDeadline(t time.Time) error {
	if t.After(time.Now()) {
		close(s.begun)
		time.Sleep(20 * time.Millisecond)
	}
	s.by = t
	return nil
}

// What silences a client is not undone by a deadline that is being set, and holds if it was.
func TestWriteDeadlineOfTwo(t *testing.T) {
	c := &slow{begun: make(chan struct{})}
	s := &conn{tls: tls.Server(c, settings)}
	var postponed sync.WaitGroup
	postponed.Go(func() { _ = s.setWriteDeadline(time.Now().Add(time.Hour)) })
	<-c.begun
	_ = s.setWriteDeadline(past)
	postponed.Wait()
	_ = s.setWriteDeadline(past)
	if !c.by.Equal(past) {
		t.Errorf("the deadline is %s", c.by)
	}
}

// What is known of the connection is known of its requests.
func TestRequestKnowsItsConnection(t *testing.T) {
	r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(key{}).(net.Conn)
		if c == nil || r.RemoteAddr != c.RemoteAddr().String() || r.TLS == nil || r.TLS.ServerName != "gate.test" {
			t.Errorf("the request is from %s, with %v", r.RemoteAddr, r.TLS)
		}
	}, true)
	c := r.dial(t)
	in := bufio.NewReader(c)
	for range 2 {
		send(t, c, get)
		next(t, in, "")
	}
}
