// Package http1guard keeps requests from net/http's HTTP/1.x server that RFC 9112 calls
// invalid, or that two readers could take for different messages. net/http repairs some of
// them and cannot be told not to: it drops a Content-Length beside Transfer-Encoding, and the
// Transfer-Encoding of an HTTP/1.0 request, whose chunks then are the next request.
package http1guard

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/tallygate/tallygate/internal/http1grammar"
)

// A Guard is what an http.Server reads one connection over HTTP/1.x through. It follows the
// requests on it and hands them over one at a time: net/http gets no byte of the next request
// before it has come to the end of the last, so that both agree where each ends. A Guard is
// used as its connection is: by one goroutine at a time.
type Guard struct {
	in      io.Reader
	refuse  func(fault error)
	scanner http1grammar.Scanner
	phase   phase
	held    []byte // to be read before in
	one     [1]byte
}

// A phase is what the next read of a [Guard] is for.
type phase uint8

const (
	reading   phase = iota // a request
	answering              // the request has been read; net/http watches whether the client leaves
	switched               // whatever follows an upgrade
	breaking               // a body that is malformed
	refused
)

// New returns a Guard of the connection in. Its first malformed request is refused by a call of
// refuse, which is to answer it and to close the connection, and which is called from Read or
// Changed; the fault is an [http1grammar.Error] or [ErrOutOfStep].
func New(in io.Reader, refuse func(fault error)) *Guard {
	return &Guard{in: in, refuse: refuse}
}

// ErrOutOfStep is a bug of ours or of net/http: they have not found the end of a request at
// the same byte.
var ErrOutOfStep = errors.New("net/http and the guard disagree about the end of a request")

// errRefused makes net/http close the connection.
var errRefused = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("malformed request")}

// breakage stands for the rest of a malformed body: no size of a chunk, no end of one, no field
// and no end of a trailer, whatever part of these net/http has already read. It then takes the
// body for malformed, and not the client for gone, as it would with an error.
const breakage = "\x00\r\r\n\r\n"

// Read reads what net/http may see of the connection.
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

// Between reports whether nothing of the next request has come.
func (g *Guard) Between() bool { return len(g.held) == 0 && !g.scanner.Started() }

// Changed takes the states of http.Server.ConnState, before or while which nothing is read.
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

// receive reads what is held, or else from the connection.
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

// follow reads a part of a request. What is behind the request is held.
func (g *Guard) follow(p []byte) (int, error) {
	for {
		begun := g.scanner.HeadDone()
		received, err := g.receive(p)
		skip, n, fault := g.scanner.Scan(p[:received])
		switch {
		case fault != nil && !begun: // net/http has nothing to answer yet
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

// watch waits until something comes, which it holds, or nothing will. Without bytes and without
// an error net/http watches no longer.
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
