// Package bypass finds ways to an API that do not lead through the gate: ports of the API that accept
// connections of other clients than the gate.
package bypass

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// A Result is the result of a probe of an address.
type Result string

// The values of [Result].
const (
	Closed   Result = "closed"   // the connection was refused
	Filtered Result = "filtered" // no response, or no route
	HTTP     Result = "http"     // answers HTTP in clear text, without a certificate
	TLS      Result = "tls"      // speaks TLS and demands no client certificate
	Other    Result = "other"    // accepts the connection and speaks something else
	Gate     Result = "gate"     // a gate, or another server that demands a client certificate
	Unknown  Result = "unknown"  // could not be probed
)

// Open reports whether r is a way to an API without a client certificate.
func (r Result) Open() bool { return r == HTTP || r == TLS || r == Other }

// A Finding has an address and the result of its probe.
type Finding struct {
	Address string `json:"address"` // the address as the caller named it
	IP      string `json:"ip,omitempty"`
	Result  Result `json:"result"`
	Detail  string `json:"detail,omitempty"` // the status line of a response, or the failure
}

// timeout bounds each of the four steps of a probe: connect, TLS, connect again, HTTP.
const timeout = 3 * time.Second

// A prober probes addresses. It is safe for concurrent use.
type prober struct{ timeout time.Duration }

// probe connects to endpoint, an IP address with a port, and finds out what listens there. It sends a TLS
// ClientHello and at most one GET request without credentials.
func (p prober) probe(ctx context.Context, endpoint string) (Result, string) {
	conn, result, detail := p.dial(ctx, endpoint)
	if conn == nil {
		return result, detail
	}
	defer conn.Close()
	asked := false // whether the server requested a client certificate
	client := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the probe trusts nothing and sends no secret
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		},
	})
	err := client.HandshakeContext(ctx)
	var response []byte
	if err == nil {
		response, err = get(client, endpoint)
	}
	alert := remoteAlert(err)
	switch {
	case asked && alert != nil:
		return Gate, "demands a client certificate"
	case asked && isRefusal(response):
		return Gate, statusLine(response)
	case client.ConnectionState().HandshakeComplete:
		return TLS, statusLine(response)
	case alert != nil:
		return TLS, fmt.Sprintf("ends the handshake: %v", alert)
	}
	return p.plain(ctx, endpoint)
}

// remoteAlert returns the TLS alert by which the server ended a connection, or nil. crypto/tls does not export
// its type.
func remoteAlert(err error) error {
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		return remote.Err
	}
	return nil
}

// plain probes a port that does not speak TLS.
func (p prober) plain(ctx context.Context, endpoint string) (Result, string) {
	conn, _, _ := p.dial(ctx, endpoint)
	if conn == nil {
		return Other, "accepts one connection and no second"
	}
	defer conn.Close()
	response, err := get(conn, endpoint)
	if line := statusLine(response); line != "" {
		return HTTP, line
	}
	if len(response) == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		return Other, "accepts connections and closes them, as a service mesh does for a closed port"
	}
	return Other, "accepts connections, and speaks neither TLS nor HTTP"
}

// dial returns a connection with a deadline. Without a connection, it returns the Result and its detail.
func (p prober) dial(ctx context.Context, endpoint string) (net.Conn, Result, string) {
	dialer := net.Dialer{Timeout: p.timeout}
	conn, err := dialer.DialContext(ctx, "tcp", endpoint)
	var slow net.Error
	switch {
	case err == nil:
		_ = conn.SetDeadline(time.Now().Add(p.timeout))
		return conn, "", ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, Closed, ""
	case ctx.Err() == nil && errors.As(err, &slow) && slow.Timeout():
		return nil, Filtered, "no answer"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return nil, Filtered, "no route to the address"
	}
	return nil, Unknown, err.Error()
}

// longestResponse is a number of bytes above the size of every refusal of a gate.
const longestResponse = 8 << 10

// get sends a GET request and returns the beginning of the response.
func get(conn io.ReadWriter, host string) ([]byte, error) {
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: tallygate-check\r\nConnection: close\r\n\r\n", host); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(conn, longestResponse))
}

// isRefusal reports whether response is a refusal of a gate, which has a reason and a request id.
func isRefusal(response []byte) bool {
	return bytes.Contains(response, []byte(`"reason":`)) && bytes.Contains(response, []byte(`"request_id":`))
}

// statusLine returns the status line of an HTTP response in printable ASCII, or "".
func statusLine(response []byte) string {
	line, _, _ := bytes.Cut(response, []byte("\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/")) {
		return ""
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, string(line[:min(len(line), 80)]))
}
