package upstream

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallygate/tallygate/internal/http1"
)

// read returns the result that a caller must get for a response of these bytes with the end of the
// connection after them. It also returns whether the connection may be kept if it does not end.
func read(answer []byte, r *http.Request) (o outcome, mayBeKept bool) {
	in := bufio.NewReaderSize(bytes.NewReader(answer), 64<<10) // it bounds trailers
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
		o.Status, o.Body, o.Trailer, o.Err = a.StatusCode, string(body), a.Trailer, class(err)
		if a.Body != http.NoBody {
			o.Length = a.ContentLength
		}
		maps.DeleteFunc(o.Trailer, func(_ string, values []string) bool { return len(values) == 0 }) // announced only
		endToEnd := http.Header{}
		for name, values := range a.Header {
			if !http1.IsHopByHop(name) && !http1.HasToken([]http1.Field{{Name: "Connection", Value: strings.Join(a.Header["Connection"], ",")}}, "Connection", name) {
				endToEnd[name] = values
			}
		}
		o.Header = endToEnd
		_, excess := in.Peek(1)
		return o, err == nil && !a.Close && a.ProtoMajor == 1 && a.StatusCode >= 200 && excess != nil
	}
}

// Whatever a server sends, the client refuses it or reads the same response as net/http. The connection is
// reused only if the server has sent exactly one response.
func FuzzResponse(f *testing.F) {
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
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) // then the server closes the connection
		if s.next(in) != nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nreused")
		}
	})
	f.Fuzz(func(t *testing.T, said []byte, method byte) {
		said = said[:min(len(said), 32<<10)] // loopback delivers up to this size in one piece
		answer = said
		direct := clientOf(t, s, nil, enough)
		r := request(t, methods[int(method)%len(methods)], "")
		want, mayBeKept := read(said, r)
		got := ask(direct, r)
		if methods[int(method)%len(methods)] == "HEAD" || want.Status == 204 || want.Status == 304 {
			got.Length = 0
		}
		if got.Status != 0 && got.Err != "" && want.Status == got.Status && strings.HasPrefix(want.Body, got.Body) {
			// The client has refused the rest of the body, which net/http may accept.
			got.Body, got.Trailer, got.Err = want.Body, want.Trailer, want.Err
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" && got.Status != 0 {
			t.Errorf("accepted, unlike net/http (-want +got):\n%s", diff)
		}
		if o := ask(direct, r); o.Body == "reused" && !mayBeKept && string(said) != o.Body {
			t.Errorf("the connection is kept")
		}
		direct.CloseIdleConnections()
	})
}
