package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// pipeline returns the bytes of n valid requests with bodies of all framings, and the messages in
// these bytes. With each seed, other positions in the requests meet the ends of buffers.
func pipeline(random *rand.Rand, n int, fields string) (text string, messages []smuggling.Message) {
	var b strings.Builder
	for i := range n {
		m := smuggling.Message{Method: "GET", Target: fmt.Sprintf("/accounts/c%05d", i)}
		note := "X-Note: " + strings.Repeat("x", random.IntN(3000)) + "\r\n"
		more, sent := "", ""
		if random.IntN(3) > 0 {
			m.Method, m.Body = "POST", strings.Repeat("0123456789\r\n", 6000)[:random.IntN([]int{2, 50, 5000, 60_000}[random.IntN(4)])]
			if random.IntN(2) == 0 {
				more, sent = fmt.Sprintf("Content-Length: %d\r\n", len(m.Body)), m.Body
			} else {
				more, sent = "Transfer-Encoding: chunked\r\n", chunks(random, m.Body)
			}
		}
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: api.example.test\r\n%s%s%s\r\n%s", m.Method, m.Target, fields, note, more, sent)
		messages = append(messages, m)
	}
	return b.String(), messages
}

// chunks returns body in chunks of random sizes, some with extensions, and sometimes a trailer.
func chunks(random *rand.Rand, body string) string {
	var b strings.Builder
	for body != "" {
		n := min(1+random.IntN(8000), len(body))
		fmt.Fprintf(&b, "%0*x%s\r\n%s\r\n", 1+random.IntN(8), n, []string{"", ";a", ";a=\"b;\\\"\""}[random.IntN(3)], body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n" + []string{"", "X-Sum: a\r\n"}[random.IntN(2)] + "\r\n"
}

// Many valid requests in a row, in pieces that end anywhere, are the same messages at the upstream, and
// their answers come in their order.
func TestPipelines(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			r := newReloading(t)
			upstream := newMessageReader(t)
			r.configure(r.upstream.url(), upstream.URL)
			r.serve()
			random := rand.New(rand.NewPCG(seed, 16))
			text, messages := pipeline(random, 200, "Authorization: Bearer "+r.tokens["good"]+"\r\n")
			conn, err := r.dialFrom("127.0.0.1", "northwind", "http/1.1")
			r.check(err)
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(2 * patience))
			go func() {
				for rest := text; rest != ""; {
					n := min(1+random.IntN([]int{3, 500, 20_000}[random.IntN(3)]), len(rest))
					if _, err := io.WriteString(conn, rest[:n]); err != nil {
						return // the test fails at the answers
					}
					rest = rest[n:]
				}
			}()
			in := bufio.NewReader(conn)
			for _, m := range messages {
				answer, err := http.ReadResponse(in, nil)
				r.check(err)
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					t.Fatalf("%s %s with %d bytes: got %s", m.Method, m.Target, len(m.Body), answer.Status)
				}
				upstream.got(t, delivery{Request: smuggling.Request{Name: m.Target, Status: http.StatusOK, Messages: []smuggling.Message{m}}, target: m.Target}, false)
			}
			r.check(r.stop())
		})
	}
}
