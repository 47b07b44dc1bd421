package httpserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/httpserver/fastpath"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/mtls"
)

// refuseNone closes the connection.
func refuseNone(c net.Conn, _ *tls.ConnectionState, _ error) { _ = c.Close() }

// A parkingServer is a HandshakeListener with net/http behind it, with or without the fast path. Its
// responses repeat the request. Its connections are parked at once.
type parkingServer struct {
	*HandshakeListener
	server http.Server
	t      *testing.T
}

func newParkingServer(t *testing.T, idle time.Duration, plain bool) *parkingServer {
	t.Helper()
	h := &parkingServer{t: t, server: http.Server{ConnState: changed, IdleTimeout: idle, ReadHeaderTimeout: testTimeout}}
	h.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("the body of %s: %v", r.URL, err)
		}
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, body)
	})
	const soon = 2 * time.Millisecond
	parked := newParkedConns(nil, testTimeout, idle, refuseNone)
	parked.parkAfter = soon
	if plain {
		parked.fast = &fastpath.Server{Handler: h.server.Handler, ConnContext: mtls.ConnContext, Quiet: soon, Patience: soon}
	}
	h.HandshakeListener, _ = handshakeListenerWith(t, settingsOf(testpki.SelfSigned("gate", testpki.DNS("gate.test"))), parked)
	l := h.HandshakeListener
	go func() { _ = h.server.Serve(l) }()
	t.Cleanup(func() { _ = h.server.Close() })
	return h
}

// dial opens a connection, and returns a reader of responses.
func (h *parkingServer) dial() (*tls.Conn, *bufio.Reader) {
	h.t.Helper()
	c, err := tls.Dial("tcp", h.Addr().String(), &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.NetConn().Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return c, bufio.NewReader(c)
}

func (h *parkingServer) send(c net.Conn, text string) {
	h.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		h.t.Fatal(err)
	}
}

// expect reads a response.
func (h *parkingServer) expect(from *bufio.Reader, want string) {
	h.t.Helper()
	answer, err := http.ReadResponse(from, nil)
	if err != nil {
		h.t.Fatalf("the answer to %.40q: %v", want, err)
	}
	defer func() { _ = answer.Body.Close() }()
	if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK || string(body) != want {
		h.t.Fatalf("the answer is %s %.40q of %d bytes, %v; want %.40q of %d", answer.Status, body, len(body), err, want, len(want))
	}
}

// waitParked waits until want connections are parked.
func (h *parkingServer) waitParked(want int) {
	h.t.Helper()
	gatetest.EventuallyEqual(h.t, "parked connections", want, h.parked.count)
}

// A connection is parked and returns any number of times. It is closed by its client, by the server
// or after its idle timeout.
func TestParkedConns(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain %v", plain), func(t *testing.T) { testParkedConns(t, plain) })
	}
}

func testParkedConns(t *testing.T, plain bool) {
	h := newParkingServer(t, testTimeout, plain)
	c, answers := h.dial()
	other, others := h.dial()
	h.send(other, "GET /o HTTP/1.1\r\nHost: a\r\n\r\n")
	h.expect(others, "GET /o ")
	for i := range 5 {
		h.send(c, fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", i))
		h.expect(answers, fmt.Sprintf("POST /%d body", i))
		h.waitParked(2)
	}
	_ = c.Close()
	h.waitParked(1)
	third, thirds := h.dial() // parked until the listener closes
	h.send(third, "GET /t HTTP/1.1\r\nHost: a\r\n\r\n")
	h.expect(thirds, "GET /t ")
	h.waitParked(2)
	_ = h.Close() // a request on its way is not lost
	h.send(other, "GET /last HTTP/1.1\r\nHost: a\r\n\r\n")
	h.expect(others, "GET /last ")
	h.waitParked(2)
	if err := h.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	h.waitParked(0)
	if _, err := others.ReadByte(); err != io.EOF {
		t.Errorf("the other connection ends with %v, want a farewell", err)
	}

	if err := (&parkableConn{state: connParked}).Close(); err != nil { // another parkableConn may own the connection
		t.Error(err)
	}

	h = newParkingServer(t, 100*time.Millisecond, plain)
	c, answers = h.dial()
	h.send(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	h.expect(answers, "GET / ")
	h.waitParked(1)
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("the connection whose time is over ends with %v", err)
	}
	h.waitParked(0)
}

// A connection before its first request has a shorter timeout than an idle connection.
func TestParkedBeforeFirstRequest(t *testing.T) {
	plain := newParkedConns(&fastpath.Server{}, 50*time.Millisecond, time.Hour, refuseNone)
	h := &parkingServer{t: t}
	h.HandshakeListener, _ = handshakeListenerWith(t, settingsOf(testpki.SelfSigned("gate", testpki.DNS("gate.test"))), plain)
	begin := time.Now()
	_, answers := h.dial()
	if _, err := answers.ReadByte(); err != io.EOF || time.Since(begin) < plain.first {
		t.Errorf("it ends after %s with %v", time.Since(begin), err)
	}
}

// Bytes of the next request that net/http has read are not lost: the connection is not parked.
func TestParkingLosesNoBytes(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain %v", plain), func(t *testing.T) { testParkingLosesNoBytes(t, newParkingServer(t, testTimeout, plain)) })
	}
}

func testParkingLosesNoBytes(t *testing.T, h *parkingServer) {
	const first, next = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
	for n := range len(next) {
		c, answers := h.dial()
		h.send(c, first+next[:n])
		h.expect(answers, "POST /1 ab")
		if n == 0 {
			h.waitParked(1)
		} else {
			time.Sleep(10 * h.parked.parkAfter) // time in which the connection could be parked by mistake
			if h.parked.count() != 0 {
				t.Errorf("with %q read, the connection went to the parked", next[:n])
			}
		}
		h.send(c, next[n:])
		h.expect(answers, "GET /next ")
		_ = c.NetConn().Close()
		h.waitParked(0)
	}
}

// Requests arrive as sent, whatever the size of the pieces and the pauses between them.
func TestParkedAnyPieces(t *testing.T) {
	t.Parallel()
	halls := []*parkingServer{newParkingServer(t, testTimeout, false), newParkingServer(t, testTimeout, true)}
	for i := range 6 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			h := halls[i%2]
			c, answers := h.dial()
			var all bytes.Buffer
			var want []string
			for i := range 30 {
				body := strings.Repeat("\r\n", rand.IntN(4)) + strings.Repeat("GE", rand.IntN(3)*rand.IntN(4000))
				switch rand.IntN(3) {
				case 0:
					fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
				case 1:
					fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", i, len(body)+1, body+".")
					body += "."
				default:
					fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
					want = append(want, fmt.Sprintf("GET /%d ", i))
					continue
				}
				want = append(want, fmt.Sprintf("POST /%d %s", i, body))
			}
			go func() {
				for all.Len() > 0 {
					piece := all.Next(1 + rand.IntN(1+rand.IntN(300)))
					if _, err := c.Write(piece); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(max(0, rand.IntN(8)-4)) * h.parked.parkAfter)
				}
			}()
			for _, w := range want {
				(&parkingServer{t: t}).expect(answers, w)
			}
		})
	}
}
