package fastpath

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Where the buffer ends is no matter of where requests end, nor is how they are cut: all of
// them are served, in order, with their bodies.
func TestEdges(t *testing.T) {
	t.Parallel()
	const patience = 2 * time.Millisecond
	r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Slow") != "" {
			time.Sleep(2 * patience) // so that the connection is watched
		}
		_, _ = fmt.Fprintf(w, "%s %d %s", r.RequestURI, len(r.Header.Get("X")), body)
	}, true)
	r.fast.Patience = patience
	ask := func(answers []string, pieces ...string) {
		t.Helper()
		c := r.dial(t)
		go func() {
			for _, piece := range pieces {
				_, _ = io.WriteString(c, piece)
			}
		}()
		in := bufio.NewReader(c)
		for _, want := range answers {
			next(t, in, want)
		}
		_ = c.NetConn().Close()
		<-r.left
	}
	const others = "POST /2 HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: gate.test\r\n\r\n"
	body := strings.Repeat("b", 3900)
	for _, size := range []int{4093, 4094, 4095, 4096, 4097, 4098, 4099} {
		for _, first := range []string{
			"GET /1 HTTP/1.1\r\nHost: gate.test\r\nX: \r\n\r\n",
			"GET /1 HTTP/1.1\r\nHost: gate.test\r\nSlow: yes\r\nX: \r\n\r\n",
			"POST /1 HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 3900\r\nX: \r\n\r\n" + body,
			"POST /1 HTTP/1.1\r\nHost: gate.test\r\nSlow: yes\r\nContent-Length: 3900\r\nX: \r\n\r\n" + body,
		} {
			x := size - len(first)
			_, sent, _ := strings.Cut(first, "\r\n\r\n")
			answers := []string{fmt.Sprintf("/1 %d %s", x, sent), "/2 0 abc", "/3 0 "}
			all := strings.Replace(first, "X: ", "X: "+strings.Repeat("x", x), 1) + others
			ask(answers, all)
			for _, cut := range []int{1, 4095, 4096, 4097, size, size + 1, size + 30} {
				ask(answers, all[:cut], all[cut:])
				ask(answers, all[:1], all[1:cut], all[cut:])
			}
		}
	}
	ask([]string{"/2 0 abc", "/3 0 "}, strings.Split(others, "")...)
	var many strings.Builder
	var answers []string
	for i := range 1000 {
		body := strings.Repeat("GET /evil HTTP/1.1\r\n\r\n", i%9)
		fmt.Fprintf(&many, "POST /%d HTTP/1.1\r\nHost: gate.test\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
		answers = append(answers, fmt.Sprintf("/%d 0 %s", i, body))
	}
	ask(answers, many.String())
}
