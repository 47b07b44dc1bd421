package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tallygate/tallygate/internal/gate"
)

// A hostileClient sends HTTP/2 frames and ignores responses.
type hostileClient struct {
	conn   *tls.Conn
	frames *http2.Framer
	block  bytes.Buffer
	fields *hpack.Encoder
	next   uint32        // stream
	ended  chan struct{} // closed when the gate has ended the connection
}

// hostile opens a connection with a certificate, or without one for "". It drops what it reads.
func (d *drill) hostile(ctx context.Context, certificate string) (*hostileClient, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{}, Config: d.client(certificate, "h2")}
	if source := d.source(2); source != nil {
		dialer.NetDialer.LocalAddr = source
	}
	conn, err := dialer.DialContext(ctx, "tcp", d.addresses[gate.PartnersListener])
	if err != nil {
		return nil, err
	}
	c := &hostileClient{conn: conn.(*tls.Conn), frames: http2.NewFramer(conn, conn), next: 1, ended: make(chan struct{})}
	c.fields = hpack.NewEncoder(&c.block)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err = io.WriteString(conn, http2.ClientPreface); err == nil {
		err = c.frames.WriteSettings()
	}
	if err == nil { // so that flow control does not stop the answers
		err = c.frames.WriteWindowUpdate(0, 1<<30)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	go func() {
		defer close(c.ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	return c, nil
}

// request begins a stream.
func (c *hostileClient) request(end bool, method, path, token string, more ...string) (stream uint32, err error) {
	c.block.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "api.example.test", ":path", path}, more...)
	if token != "" {
		fields = append(fields, "authorization", "Bearer "+token)
	}
	for i := 0; i < len(fields); i += 2 {
		_ = c.fields.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	stream, c.next = c.next, c.next+2
	return stream, c.writeBlock(stream, end)
}

// writeBlock sends the header block in frames of at most 16 KiB.
func (c *hostileClient) writeBlock(stream uint32, end bool) error {
	const most = 16 << 10
	first, rest := c.block.Bytes(), []byte(nil)
	if len(first) > most {
		first, rest = first[:most], first[most:]
	}
	err := c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0})
	for err == nil && len(rest) > 0 {
		part := rest[:min(most, len(rest))]
		rest = rest[len(part):]
		err = c.frames.WriteContinuation(stream, len(rest) == 0, part)
	}
	return err
}

// eachHostile keeps the given number of HTTP/2 connections open until ctx ends. It calls f perSecond
// times a second in total, each time with one of the connections. An error of f ends the connection,
// and a new connection replaces it.
func (d *drill) eachHostile(ctx context.Context, connections int, perSecond float64, certificate string, f func(*hostileClient) error) {
	clients := make([]*hostileClient, connections)
	d.paced(ctx, connections, perSecond, func(worker int) {
		c := clients[worker]
		if c == nil {
			var err error
			if c, err = d.hostile(ctx, certificate); err != nil {
				return
			}
			clients[worker] = c
		}
		if err := f(c); err != nil {
			_ = c.conn.Close()
			clients[worker] = nil
		}
		d.sent.Add(1)
	})
	for _, c := range clients {
		if c != nil {
			_ = c.conn.Close()
		}
	}
}

// flipTables changes the size of the gate's header table between 0 and 4096 while the gate writes
// responses: net/http of Go 1.26.8 then changes a map that its writer reads.
func (d *drill) flipTables(certificate string) func(context.Context) {
	return func(ctx context.Context) {
		token, batches := d.tokens["sync"], 200.0
		if certificate == "" { // answered with 401, after which the gate ends the connection
			token, batches = "", 40
		}
		d.eachHostile(ctx, 4, batches, certificate, func(c *hostileClient) error {
			for range 6 {
				if _, err := c.request(true, "GET", "/accounts/7", token, "x-n", fmt.Sprint(c.next)); err != nil {
					return err
				}
				for _, size := range []uint32{0, 4096, 0, 4096} {
					if err := c.frames.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}); err != nil {
						return err
					}
				}
			}
			if certificate == "" {
				time.Sleep(5 * time.Millisecond)
				return errNext
			}
			return nil
		})
	}
}

// errNext asks for another connection.
var errNext = errors.New("another connection is needed")

// resetStreams resets each stream a moment after its request, while 103 responses are forwarded:
// net/http may still read the header then (golang/go#67940).
func (d *drill) resetStreams(ctx context.Context) {
	d.eachHostile(ctx, 4, 200, "borealis", func(c *hostileClient) error {
		var streams []uint32
		for range 3 {
			stream, err := c.request(true, "GET", "/files/hints", d.tokens["sync"])
			if err != nil {
				return err
			}
			streams = append(streams, stream)
		}
		time.Sleep(time.Duration(c.next%7) * 300 * time.Microsecond)
		for _, stream := range streams {
			if err := c.frames.WriteRSTStream(stream, http2.ErrCodeCancel); err != nil {
				return err
			}
		}
		return nil
	})
}

// announceTrailers names 3,000 trailer fields in each request and sends none of them.
func (d *drill) announceTrailers(ctx context.Context) {
	names := make([]string, 3000)
	for i := range names {
		names[i] = fmt.Sprintf("t%d", i)
	}
	list := strings.Join(names, ",")
	d.eachHostile(ctx, 20, 300, "borealis", func(c *hostileClient) error {
		_, err := c.request(false, "POST", "/accounts/7", d.tokens["sync"], "trailer", list)
		return err
	})
}

// openSilentStreams opens 240 streams that announce a body and send none, and keeps them open.
func (d *drill) openSilentStreams(ctx context.Context) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			c, err := d.hostile(ctx, "borealis")
			if err != nil {
				return
			}
			defer func() { _ = c.conn.Close() }()
			for range 60 {
				d.sent.Add(1)
				if _, err := c.request(false, "POST", "/accounts/7", d.tokens["sync"]); err != nil {
					return
				}
			}
			select {
			case <-ctx.Done():
			case <-c.ended:
			}
		})
	}
	all.Wait()
	<-ctx.Done()
}
