// Package http1guard keeps two kinds of requests from net/http's HTTP/1.x server: requests that RFC
// 9112 calls invalid, and requests that two implementations could read as different messages. net/http
// repairs some of these requests, and no setting prevents the repair: net/http drops a Content-Length
// beside Transfer-Encoding, and it drops the Transfer-Encoding of an HTTP/1.0 request and reads the
// chunks as the next request.
package http1guard

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/tallygate/tallygate/internal/http1grammar"
)

// A Guard is the reader through which an http.Server reads one HTTP/1.x connection. It checks the
// requests and passes them on one at a time: net/http gets no byte of the next request before it has
// read the last request to its end, so the Guard and net/http agree where each request ends. Only one
// goroutine at a time may use a Guard or its connection.
type Guard struct {
	in      io.Reader
	refuse  func(fault error)
	scanner http1grammar.Scanner
	phase   phase
	held    []byte // bytes that receive returns before it reads from in
	one     [1]byte
}

// A phase says what the next read of a [Guard] returns.
type phase uint8

const (
	reading   phase = iota // bytes of a request
	answering              // no bytes: the request has been read, and net/http reads only to notice that the client leaves
	switched               // the bytes after an upgrade, which are not checked
	breaking               // breakage in place of the rest of a malformed body
	refused
)

// New returns a Guard for the connection in. refuse is called once, from Read or Changed, for the
// first malformed request. It must answer the request and close the connection. fault is an
// [http1grammar.Error] or [ErrOutOfStep].
func New(in io.Reader, refuse func(fault error)) *Guard {
	return &Guard{in: in, refuse: refuse}
}

// ErrOutOfStep reports a bug in the gate or in net/http: the two disagree about the last byte of a
// request.
var ErrOutOfStep = errors.New("net/http and the guard disagree about the end of a request")

// errRefused makes net/http close the connection.
var errRefused = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("malformed request")}

// breakage replaces the rest of a malformed body, so that net/http treats the body as malformed. After
// a read error, net/http would instead treat the client as gone. breakage is invalid at every point of
// the chunked coding that net/http may have reached: it is not a chunk size, not the end of a chunk,
// not a field and not the end of a trailer.
const breakage = "\x00\r\r\n\r\n"

// Read returns the bytes that net/http may see.
func (g *Guard) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case g.phase == refused:
		return 0, errRefused
	case g.phase == answering:
		return 0, g.watch()
	case g.phase == breaking && len(g.held) == 0:
		g.phase = refused
		return 0, errRefused
	case g.phase == reading:
		return g.follow(p)
	}
	return g.receive(p)
}

// Between reports whether no byte of the next request has arrived.
func (g *Guard) Between() bool { return len(g.held) == 0 && !g.scanner.Started() }

// Changed handles a call of http.Server.ConnState. The caller must call Changed before the first read
// in the new state.
func (g *Guard) Changed(state http.ConnState) {
	switch state {
	case http.StateIdle:
		if g.phase != answering {
			g.phase = refused
			g.refuse(ErrOutOfStep)
			return
		}
		g.phase, g.scanner = reading, http1grammar.Scanner{}
	case http.StateHijacked:
		g.phase = switched
	case http.StateNew, http.StateActive, http.StateClosed:
	}
}

// receive reads the held bytes if there are any, and from the connection otherwise.
func (g *Guard) receive(p []byte) (int, error) {
	if len(g.held) == 0 {
		return g.in.Read(p)
	}
	n := copy(p, g.held)
	if g.held = g.held[n:]; len(g.held) == 0 {
		g.held = nil
	}
	return n, nil
}

// follow reads part of a request, and holds the bytes after the request.
func (g *Guard) follow(p []byte) (int, error) {
	for {
		begun := g.scanner.HeadDone()
		received, err := g.receive(p)
		skip, n, fault := g.scanner.Scan(p[:received])
		switch {
		case fault != nil && !begun: // net/http has not read the header, so the gate must answer
			g.phase = refused
			g.refuse(fault)
			return 0, errRefused
		case fault != nil:
			g.phase, g.held = breaking, []byte(breakage)
			if n == 0 {
				return g.receive(p)
			}
			return n, nil
		case g.scanner.Done():
			g.phase, g.held = answering, slices.Concat(p[n:received], g.held)
		}
		if n = copy(p, p[skip:n]); n > 0 || received == 0 || err != nil {
			return n, err
		}
	}
}

// watch waits for the next byte and holds it. Read then returns no bytes and no error, which makes
// net/http stop watching the connection.
func (g *Guard) watch() error {
	if len(g.held) > 0 {
		return nil
	}
	n, err := g.in.Read(g.one[:])
	if n == 0 {
		return err
	}
	g.held = append(g.held, g.one[0])
	return nil
}
