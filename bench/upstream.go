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

// Sizes of bodies in bytes. A megabyte is 2^20 bytes here.
const (
	smallAnswer    = 1 << 10
	largeAnswer    = 1 << 20
	streamedAnswer = 16 << 20
)

// upstream is the API behind all peers. It reads the whole request and answers with 16 MB on
// /downloads/..., with 1 MB on /documents/... and with 1 KB elsewhere, and it keeps connections open.
// It prints its address and runs until ctx ends.
func upstream(ctx context.Context, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return err
	}
	small, large, streamed := canned(smallAnswer), canned(largeAnswer), canned(streamedAnswer)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil // ctx has ended
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
				switch path := request.URL.Path; {
				case strings.HasPrefix(path, "/documents/"):
					answer = large
				case strings.HasPrefix(path, "/downloads/"):
					answer = streamed
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// canned returns an answer with a body of this size. It has a Date, which RFC 9110 section 6.6.1
// demands, but always the same date.
func canned(size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		time.Now().UTC().Format(http.TimeFormat), size)
	return append([]byte(head), strings.Repeat("1234567\n", size/8)...)
}
