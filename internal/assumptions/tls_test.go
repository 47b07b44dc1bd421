package assumptions

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/internal/testpki"
)

// noData is a temporary error, as of a read that would have to wait.
type noData struct{}

func (noData) Error() string   { return "no data" }
func (noData) Timeout() bool   { return true }
func (noData) Temporary() bool { return true }

// A limitedReader lets TLS read the bytes in the channel and returns noData without them.
type limitedReader struct {
	net.Conn
	bytes chan []byte
	rest  []byte
	on    bool
}

func (c *limitedReader) Read(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Read(p)
	}
	if len(c.rest) == 0 {
		select {
		case c.rest = <-c.bytes:
		default:
			return 0, noData{}
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// tlsPair returns both ends of a TLS connection after the handshake. below is the connection below the
// client's end.
func tlsPair(t *testing.T) (client *tls.Conn, below *limitedReader, server *tls.Conn) {
	t.Helper()
	ca := testpki.NewCA("ca")
	pool := testpki.Pool(ca)
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	below = &limitedReader{Conn: near, bytes: make(chan []byte, 10)}
	client = tls.Client(below, &tls.Config{RootCAs: pool, ServerName: "a.example", MinVersion: tls.VersionTLS12})
	server = tls.Server(far, &tls.Config{
		Certificates: []tls.Certificate{ca.Leaf("a", testpki.DNS("a.example")).TLS()}, MinVersion: tls.VersionTLS12,
		SessionTicketsDisabled: true, // a ticket would be a record before the first data
	})
	failed := make(chan error, 1)
	go func() { failed <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-failed); err != nil {
		t.Fatal(err)
	}
	return client, below, server
}

// record returns the bytes below TLS of text.
func record(t *testing.T, below *limitedReader, server *tls.Conn, text string) []byte {
	t.Helper()
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(server, text)
		written <- err
	}()
	whole := make([]byte, 1<<10)
	n, err := below.Conn.Read(whole)
	if err := errors.Join(err, <-written); err != nil {
		t.Fatal(err)
	}
	return whole[:n]
}

// crypto/tls reads on after an error of the connection that is temporary.
func TestAssumesTLSReadsOnAfterTemporaryError(t *testing.T) {
	client, below, server := tlsPair(t)
	below.on = true
	var b [16]byte
	for range 2 {
		if _, err := client.Read(b[:]); !errors.Is(err, noData{}) {
			t.Fatalf("Read returned %v, want the temporary error", err)
		}
	}
	below.bytes <- record(t, below, server, "hello")
	if n, err := client.Read(b[:]); err != nil || string(b[:n]) != "hello" {
		t.Errorf("Read returned %q, %v after a temporary error; want hello", b[:n], err)
	}
}

// crypto/tls reads half a record without an error other than the connection's, keeps it, and completes
// it later.
func TestAssumesTLSKeepsHalfARecord(t *testing.T) {
	client, below, server := tlsPair(t)
	below.on = true
	whole := record(t, below, server, "hello")
	below.bytes <- whole[:len(whole)/2]
	var b [16]byte
	if _, err := client.Read(b[:]); !errors.Is(err, noData{}) {
		t.Fatalf("Read of half a record returned %v, want the temporary error", err)
	}
	if len(below.rest) > 0 {
		t.Errorf("crypto/tls left %d bytes unread, want 0", len(below.rest))
	}
	below.bytes <- whole[len(whole)/2:]
	if n, err := client.Read(b[:]); err != nil || string(b[:n]) != "hello" {
		t.Errorf("Read returned %q, %v for the second half; want hello", b[:n], err)
	}
}

// tlsServer serves handler over TLS with HTTP/1.1 and the HTTP/2 of golang.org/x/net, and returns a
// client for the protocol.
func tlsServer(t *testing.T, protocol string, handler http.HandlerFunc) (*http.Client, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if err := http2.ConfigureServer(server.Config, nil); err != nil { //nolint:staticcheck // the gate uses it too: httpserver.NewHTTP2
		t.Fatal(err)
	}
	server.TLS = server.Config.TLSConfig
	server.StartTLS()
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport)
	transport.TLSClientConfig.NextProtos = []string{protocol}
	transport.ForceAttemptHTTP2 = protocol == "h2"
	return server.Client(), server.URL
}

// All requests of a connection have the same *tls.ConnectionState.
func TestAssumesSharedConnectionState(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		var states []*tls.ConnectionState
		var remotes []string
		client, url := tlsServer(t, protocol, func(_ http.ResponseWriter, r *http.Request) {
			states, remotes = append(states, r.TLS), append(remotes, r.RemoteAddr)
		})
		for range 2 {
			response, err := client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		if remotes[0] != remotes[1] || states[0] == nil || states[0] != states[1] {
			t.Errorf("%s: two requests from %v have the states %p and %p, want one connection and one state", protocol, remotes, states[0], states[1])
		}
	}
}

// The HTTP/2 server copies the header of an informational response when it leaves out a
// Content-Length: the client does not get the field, and the handler's map keeps it.
func TestAssumesInformationalHeaderIsCopied(t *testing.T) {
	client, url := tlsServer(t, "h2", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusEarlyHints)
		if got := w.Header().Get("Content-Length"); got != "0" {
			t.Errorf("after WriteHeader(103) the handler's Content-Length is %q, want 0", got)
		}
	})
	var got textproto.MIMEHeader
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	trace := httptrace.ClientTrace{Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
		got = header
		return nil
	}}
	client.Timeout = 10 * time.Second
	response, err := client.Do(r.WithContext(httptrace.WithClientTrace(t.Context(), &trace)))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if got == nil || got.Get("Content-Length") != "" {
		t.Errorf("the client got the informational header %v, want one without Content-Length", got)
	}
}
