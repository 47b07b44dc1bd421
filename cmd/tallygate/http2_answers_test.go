package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tallygate/tallygate/internal/http1/smuggling"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A framedAnswer is what an upstream sends over HTTP/2 for a request.
type framedAnswer struct {
	name  string
	head  []string // fields after the status 200, or all with a status; alternating names and values
	body  string
	end   func(c *framedConn, stream uint32) error // behind the body
	fault smuggling.Fault
	// announced is the part of the body within the length in the head. A client that has received this
	// part cannot learn of a fault behind it. announced is nil without a length, or if the body is
	// shorter.
	announced *string
	twists    bool // the head has its own status
}

var framedAnswers = func() (all []framedAnswer) {
	ends := func(c *framedConn, stream uint32) error { return c.frames.WriteData(stream, true, nil) }
	hangsUp := func(*framedConn, uint32) error { return io.EOF }
	resets := func(code http2.ErrCode) func(*framedConn, uint32) error {
		return func(c *framedConn, stream uint32) error { return c.frames.WriteRSTStream(stream, code) }
	}
	trails := func(fields ...string) func(*framedConn, uint32) error {
		return func(c *framedConn, stream uint32) error { return c.header(stream, true, fields...) }
	}
	cut := func(name string, head []string, body string, end func(*framedConn, uint32) error) {
		all = append(all, framedAnswer{name: name, head: head, body: body, end: end, fault: smuggling.InBody})
	}
	for name, head := range map[string][]string{"with a length": {"content-length", "4"}, "without a length": nil, "of gRPC": {"content-type", "application/grpc"}} {
		cut("the connection ends, "+name, head, "fi", hangsUp)
		for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeRefusedStream} {
			cut(fmt.Sprintf("the stream ends with %s, %s", code, name), head, "fi", resets(code))
		}
		cut("GOAWAY, "+name, head, "fi", func(c *framedConn, _ uint32) error {
			_ = c.frames.WriteGoAway(0, http2.ErrCodeInternal, nil)
			return io.EOF
		})
		for fault, trailer := range map[string][]string{"a pseudo field": {":status", "200"}, "CR LF": {"x-sum", "a\r\nb: c"}} {
			cut(fault+" in the trailer, "+name, head, "fine", trails(trailer...))
			if name == "with a length" {
				all[len(all)-1].announced = new("fine")
			}
		}
	}
	cut("a shorter body", []string{"content-length", "5"}, "fine", ends)
	cut("a longer body", []string{"content-length", "3"}, "fine", ends)
	all[len(all)-1].announced = new("fin")
	cut("a body behind length 0", []string{"content-length", "0"}, "fine", ends)
	all[len(all)-1].announced = new("")
	for name, head := range map[string][]string{
		"no status": {"x-note", "a"}, "the status 099": {":status", "099"}, "the status 1000": {":status", "1000"}, "the status abc": {":status", "abc"}, "an empty status": {":status", ""}, "the status +20": {":status", "+20"},
		"101": {":status", "101"}, "CR LF in a value": {":status", "200", "x-note", "a\r\nset-cookie: b"}, "NUL in a value": {":status", "200", "x-note", "a\x00"}, "an upper-case name": {":status", "200", "X-Note", "a"}, "a space in a name": {":status", "200", "x note", "a"},
	} {
		all = append(all, framedAnswer{name: name, head: head, twists: true, body: "fine", end: ends, fault: smuggling.InHead})
	}
	return append(all,
		framedAnswer{name: "a length", head: []string{"content-length", "4"}, body: "fine", end: ends},
		framedAnswer{name: "no length", body: "fine", end: ends},
		framedAnswer{name: "a trailer", body: "fine", end: trails("x-sum", "a")},
		framedAnswer{name: "a trailer of gRPC", head: []string{"content-type", "application/grpc"}, body: "fine", end: trails("grpc-status", "0")},
	)
}()

// A framedConn is a connection of an upstream that sends any HTTP/2 frames.
type framedConn struct {
	frames *http2.Framer
	block  bytes.Buffer
	fields *hpack.Encoder
}

// header sends fields in one HEADERS frame.
func (c *framedConn) header(stream uint32, end bool, fields ...string) error {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.fields.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndStream: end, EndHeaders: true})
}

// answer sends an answer. An error ends the connection.
func (c *framedConn) answer(stream uint32, a framedAnswer) error {
	head := a.head
	if !a.twists {
		head = append([]string{":status", "200"}, head...)
	}
	if err := c.header(stream, false, head...); err != nil {
		return err
	}
	if err := c.frames.WriteData(stream, false, []byte(a.body)); err != nil {
		return err
	}
	return a.end(c, stream)
}

// newFramedUpstream starts an upstream of HTTP/2 without TLS and returns its address. A request for
// /accounts/N gets the Nth answer.
func newFramedUpstream(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				serveFrames(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait() // the gate has ended
	})
	return l.Addr().String()
}

func serveFrames(conn net.Conn) {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	c := &framedConn{frames: http2.NewFramer(conn, conn)}
	c.frames.AllowIllegalWrites = true
	c.frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fields = hpack.NewEncoder(&c.block)
	err := c.frames.WriteSettings()
	for err == nil {
		var frame http2.Frame
		frame, err = c.frames.ReadFrame()
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = c.frames.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = c.frames.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			var n int
			if _, err = fmt.Sscanf(frame.PseudoValue("path"), "/accounts/%d", &n); err == nil {
				err = c.answer(frame.StreamID, framedAnswers[n])
			}
		}
	}
}

// A malformed response over HTTP/2 becomes 502. A response that breaks off never looks whole to the
// client, over any version of HTTP.
func TestMalformedAnswersOverHTTP2(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	address := newFramedUpstream(t)
	r.configure("upstream: {url: \""+r.upstream.url()+"\",", "upstream: {protocol: h2c, url: \"http://"+address+"\",")
	r.serve()
	for name, ask := range map[string]func(method, target string) (received, error){
		"HTTP/1.1": r.newClient(false), "HTTP/2": r.newClient(true), "HTTP/1.0": r.oldClient(),
	} {
		for n, a := range framedAnswers {
			answer := smuggling.Response{Name: a.name, Fault: a.fault, Status: http.StatusOK, Body: "fine"}
			got, err := ask(http.MethodGet, fmt.Sprintf("/accounts/%d", n))
			if err == nil && a.announced != nil && got == (received{http.StatusOK, *a.announced, true}) {
				continue
			}
			if fault := wrong(answer, got, err); fault != "" {
				t.Errorf("%s, over %s: got %d %.300q, whole %t, %v; %s", a.name, name, got.status, got.body, got.whole, err, fault)
			}
		}
	}
	r.check(r.stop())
}

// The end of a TLS connection without a close_notify alert does not end a response: an attacker may have cut it.
func TestAnswerCutBelowTLS(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	ca := testpki.NewCA("Internal Root")
	ca.Write(r.dir, "internal-ca")
	pair := ca.Leaf("api", testpki.IP("127.0.0.1"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.check(err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair.TLS()}})
				if request, err := http.ReadRequest(bufio.NewReader(secure)); err == nil {
					_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfine")
					if request.URL.Path == "/accounts/whole" {
						_ = secure.Close()
					}
				}
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	r.configure("upstream: {url: \""+r.upstream.url()+"\",", "upstream: {tls: {trust: [internal-ca.pem]}, url: \"https://"+l.Addr().String()+"\",")
	r.serve()
	for name, ask := range map[string]func(method, target string) (received, error){"HTTP/1.1": r.newClient(false), "HTTP/2": r.newClient(true)} {
		for target, whole := range map[string]bool{"/accounts/whole": true, "/accounts/cut": false} {
			if got, err := ask(http.MethodGet, target); whole && got != (received{200, "fine", true}) || !whole && err == nil && got.whole && got.status == http.StatusOK {
				t.Errorf("%s, over %s: got %+v, %v, want whole %t", target, name, got, err, whole)
			}
		}
	}
	r.check(r.stop())
}
