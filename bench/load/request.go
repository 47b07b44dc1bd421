package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxWithHead is the largest body that is sent in one write with its header, as clients send small bodies.
const maxWithHead = 16 << 10

// zeros is one piece of a longer body. Reused pieces keep the generator's memory small.
var zeros = make([]byte, 64<<10)

// A connection sends one HTTP/1.1 request at a time.
type connection struct {
	conn       net.Conn
	answers    *bufio.Reader
	head, tail []byte // the bytes of the request before and after the token
	body       int    // bytes to write after tail
	buffer     []byte
	answer     int
	forms      bool // call sends its argument as a form, and answer is the least size
}

func dial(ctx context.Context, job Job, config *tls.Config) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", job.Address)
	if err != nil {
		return nil, err
	}
	c := &connection{conn: conn, answers: bufio.NewReader(conn), answer: job.Answer, forms: job.Kind == Forms}
	if c.forms {
		c.head = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ", job.Path, job.Name)
		return c, nil
	}
	c.head = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nAuthorization: Bearer ", job.Method, job.Path, job.Name)
	c.tail = []byte("\r\n\r\n")
	if job.Body > 0 {
		c.tail = fmt.Appendf(nil, "\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", job.Body)
	}
	if job.Body <= maxWithHead {
		c.tail = append(c.tail, make([]byte, job.Body)...)
	} else {
		c.body = job.Body
	}
	return c, nil
}

// call sends one request, with a token or a form, and reads the whole answer.
func (c *connection) call(token string) error {
	if err := c.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	c.buffer = append(c.buffer[:0], c.head...)
	if c.forms {
		c.buffer = append(strconv.AppendInt(c.buffer, int64(len(token)), 10), "\r\n\r\n"...)
	}
	c.buffer = append(append(c.buffer, token...), c.tail...)
	if _, err := c.conn.Write(c.buffer); err != nil {
		return err
	}
	for left := c.body; left > 0; left -= len(zeros) {
		if _, err := c.conn.Write(zeros[:min(left, len(zeros))]); err != nil {
			return err
		}
	}
	response, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	return whole(response, c.answer, c.forms)
}

func (c *connection) close() { _ = c.conn.Close() }

// whole reads an answer to its end and checks its status and size, which may be larger if longer is true.
func whole(response *http.Response, want int, longer bool) error {
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || n < int64(want) || n > int64(want) && !longer {
		return fmt.Errorf("answered %s with %d bytes", response.Status, n)
	}
	return nil
}

// A client sends requests on one HTTP/2 connection.
type client struct {
	job       Job
	transport *http.Transport
}

func newClient(job Job, config *tls.Config) *client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &client{job: job, transport: &http.Transport{
		TLSClientConfig: config.Clone(), Protocols: protocols, MaxConnsPerHost: 1, DisableCompression: true, ResponseHeaderTimeout: requestTimeout,
	}}
}

func (c *client) call(token string) error {
	request, err := http.NewRequest(c.job.Method, "https://"+c.job.Address+c.job.Path, bytes.NewReader(make([]byte, c.job.Body)))
	if err != nil {
		return err
	}
	request.Host = c.job.Name
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	return whole(response, c.job.Answer, false)
}

func (c *client) close() { c.transport.CloseIdleConnections() }
