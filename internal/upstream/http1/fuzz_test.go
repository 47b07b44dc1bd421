package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// read is what a caller must see of an answer that is these bytes and then the connection's
// end, and whether the connection may be kept if that does not end.
func read(answer []byte, r *http.Request) (o outcome, mayBeKept bool) {
	in := bufio.NewReader(bytes.NewReader(answer))
	for {
		a, err := http.ReadResponse(in, r)
		if err != nil {
			o.Err = class(err)
			return o, false
		}
		if a.StatusCode >= 100 && a.StatusCode <= 199 && a.StatusCode != http.StatusSwitchingProtocols {
			o.Informed = append(o.Informed, a.StatusCode)
			continue
		}
		body, err := io.ReadAll(a.Body)
		_ = a.Body.Close()
		o.Status, o.Length, o.Header, o.Body, o.Trailer, o.Err = a.StatusCode, a.ContentLength, a.Header, string(body), a.Trailer, class(err)
		_, excess := in.Peek(1)
		return o, err == nil && !a.Close && a.ProtoMajor == 1 && a.StatusCode >= 200 && excess != nil
	}
}

// Whatever a server sends, the caller gets the same result as from net/http, at once. The connection is
// reused only if the server has sent exactly one response.
func FuzzAnswer(f *testing.F) {
	methods := []string{"GET", "HEAD", "POST"}
	seeds := 0
	for _, c := range conformances {
		if len(c.answer) < 32<<10 {
			for n := range methods {
				f.Add([]byte(c.answer), byte(n))
				seeds++
			}
		}
	}
	if seeds < 100 {
		f.Fatalf("%d seeds", seeds)
	}
	var answer []byte
	s := listen(f, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
		if s.next(in) == nil {
			return
		}
		_, _ = conn.Write(answer)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) // then it hangs up
		if s.next(in) != nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nreused")
		}
	})
	f.Fuzz(func(t *testing.T, said []byte, method byte) {
		if len(said) > 32<<10 { // which loopback delivers in one piece
			t.Skip()
		}
		answer = said
		direct, general := transports(t, s, nil, header)
		r := request(t, methods[int(method)%len(methods)], "")
		want, mayBeKept := read(said, r)
		if diff := cmp.Diff(want, ask(direct, r), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("ours (-want +got):\n%s", diff)
		}
		if o := ask(direct, r); o.Body == "reused" && !mayBeKept && string(said) != o.Body {
			t.Errorf("the connection is kept")
		}
		if diff := cmp.Diff(want, ask(general, r), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("http.Transport (-want +got):\n%s", diff)
		}
		for _, transport := range []interface{ CloseIdleConnections() }{direct, general} {
			transport.CloseIdleConnections()
		}
	})
}
