package httpserver

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// newTestListener returns a HandshakeListener on a port of its own.
func newTestListener(t *testing.T, settings *tls.Config) (l *HandshakeListener, failed chan error) {
	t.Helper()
	return handshakeListenerWith(t, settings, newParkedConns(nil, testTimeout, testTimeout, refuseNone))
}

func handshakeListenerWith(t *testing.T, settings *tls.Config, parked *parkedConns) (l *HandshakeListener, failed chan error) {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	failed = make(chan error, 10)
	l = newHandshakeListener(raw, settings, testTimeout, func(_ net.Addr, err error) { failed <- err }, parked)
	t.Cleanup(func() { _ = l.Close() })
	return l, failed
}

func settingsOf(pair *testpki.Pair) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{pair.TLS()}, MinVersion: tls.VersionTLS12}
}

// A panic in a handshake closes that connection only, and its error does not quote the peer.
func TestHandshakePanic(t *testing.T) {
	settings := settingsOf(testpki.SelfSigned("gate", testpki.DNS("gate.test")))
	settings.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName != "gate.test" {
			panic(hello.ServerName)
		}
		return nil, nil
	}
	l, failed := newTestListener(t, settings)
	if _, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "secret.test", InsecureSkipVerify: true}); err == nil {
		t.Error("the handshake succeeded, want an error")
	}
	var fault *PanicError
	if err := <-failed; !errors.As(err, &fault) || strings.Contains(fault.Error(), "secret") || !strings.Contains(fault.Stack, "TestHandshakePanic") {
		t.Errorf("got failure %v, want a PanicError with its stack and without the peer's name", err)
	}
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("the next handshake: %v", err)
	}
	_ = c.Close()
	if c, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
}

// A handshake that is under way when the listener closes may complete. A handshake that makes no
// progress is aborted.
func TestHandshakeDuringClose(t *testing.T) {
	l, failed := newTestListener(t, settingsOf(testpki.SelfSigned("gate", testpki.DNS("gate.test"))))
	quick, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = quick.Close() }()
	stuck, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stuck.Close() }()
	gatetest.EventuallyEqual(t, "handshakes in progress", 2, l.handshaking.Load)
	_ = l.Close()
	go func() { _ = tls.Client(quick, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("Accept returned %v, want the connection whose handshake completed", err)
	}
	_ = c.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Accept returned %v, want net.ErrClosed", err)
	}
	if err := <-failed; err == nil {
		t.Error("the stalled handshake succeeded, want an error")
	}
}

// The same holds while Accept waits: the closed listener is not an error that Accept returns before
// these connections.
func TestHandshakeDuringCloseWhileAccepting(t *testing.T) {
	settings := settingsOf(testpki.SelfSigned("gate", testpki.DNS("gate.test")))
	for range 20 { // without the check, half of these fail
		l, _ := newTestListener(t, settings)
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		gatetest.EventuallyEqual(t, "handshakes in progress", 1, l.handshaking.Load)
		accepted := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_ = c.Close()
			}
			accepted <- err
		}()
		time.Sleep(5 * time.Millisecond) // until Accept waits
		_ = l.Close()
		_ = tls.Client(raw, &tls.Config{InsecureSkipVerify: true}).Handshake()
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
		_ = raw.Close()
	}
}

// A connection that leaves the parked connections while the listener closes is delivered.
func TestReturnDuringClose(t *testing.T) {
	l, _ := newTestListener(t, settingsOf(testpki.SelfSigned("gate", testpki.DNS("gate.test"))))
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.NetConn().Close() }()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.parked.park(accepted.(*parkableConn).Conn, time.Time{})
	if _, err := io.WriteString(c, "G"); err != nil {
		t.Fatal(err)
	}
	gatetest.EventuallyEqual(t, "connections on their way to net/http, which does not accept yet", 1, func() int {
		l.parked.mu.Lock()
		defer l.parked.mu.Unlock()
		return l.parked.leaving
	})
	_ = l.Close()
	time.Sleep(ShutdownGrace / 10)
	back, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if n, err := back.Read(one[:]); n != 1 || one[0] != 'G' {
		t.Errorf("Read returned %q, %v, want \"G\"", one[:n], err)
	}
	_ = back.Close()
}
