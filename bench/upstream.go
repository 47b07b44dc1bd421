package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// What the upstream answers with, in bytes.
const (
	smallAnswer = 1 << 10
	largeAnswer = 1 << 20
)

// upstream is the API behind all peers: it answers /documents/... with a megabyte and
// everything else with a kilobyte, as fast as it can, and keeps connections open. It prints
// its address and runs until ctx ends.
func upstream(ctx context.Context, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return err
	}
	small, large := canned(smallAnswer), canned(largeAnswer)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil // it was closed
		}
		go func() {
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(conn)
			for {
				request, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, request.Body); err != nil {
					return
				}
				answer := small
				if strings.HasPrefix(request.URL.Path, "/documents/") {
					answer = large
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// canned returns an answer of this size. It has a date, as that of every server with a clock
// must (RFC 9110 section 6.6.1), though always the same.
func canned(size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		time.Now().UTC().Format(http.TimeFormat), size)
	return append([]byte(head), strings.Repeat("1234567\n", size/8)...)
}
