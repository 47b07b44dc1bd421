package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A lateBody is a request that the gate answers before the body has arrived.
type lateBody struct {
	name   string
	method string
	suffix string // the end of the target
	fields string // without the framing
	status int
}

// T-SMG-09, 11, 12: the body of a request that was answered early is no request, whether the gate or the
// upstream answered.
func TestLateBodies(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	var mu sync.Mutex
	var targets []string // the targets of the requests at the upstream
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		targets = append(targets, r.RequestURI)
		mu.Unlock()
		if strings.HasSuffix(r.RequestURI, "-early") {
			conn, _, err := http.NewResponseController(w).Hijack() // net/http would read the body first
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 422 Early\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}))
	t.Cleanup(upstream.Close)
	r.configure(r.upstream.url(), upstream.URL)
	r.serve()
	good := "Authorization: Bearer " + r.tokens["good"] + "\r\n"
	expects := "Expect: 100-continue\r\n"
	n := 0
	for _, late := range []lateBody{
		{"no token", "POST", "", "", 401},
		{"a bad token, with an expectation", "POST", "", "Authorization: Bearer x\r\n" + expects, 401},
		{"no such route", "POST", "/8/9", good, 403},
		{"no such route, with an expectation", "POST", "/8/9", good + expects, 403},
		{"GET with a body", "GET", "", good, 400},
		{"another expectation", "POST", "", good + "Expect: 200-ok\r\n", 417},
		{"an upstream that answers early", "POST", "-early", good, 422},
		{"an upstream that answers early, with an expectation", "POST", "-early", good + expects, 422},
	} {
		for _, framing := range []string{"length", "long length", "chunks", "malformed chunks"} {
			n++
			target := fmt.Sprintf("/accounts/l%d", n)
			smuggled := "GET " + target + "-smuggled HTTP/1.1\r\nHost: api.example.test\r\n" + good + "\r\n"
			head := late.method + " " + target + late.suffix + " HTTP/1.1\r\nHost: api.example.test\r\n" + late.fields
			body := smuggled
			switch framing {
			case "length":
				head += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled))
			case "long length":
				head += fmt.Sprintf("Content-Length: %d\r\n\r\n", 60_000)
				body = strings.Repeat(smuggled, 60_000/len(smuggled)+1)[:60_000]
			case "chunks":
				head += "Transfer-Encoding: chunked\r\n\r\n"
				body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)
			case "malformed chunks":
				head += "Transfer-Encoding: chunked\r\n\r\n"
				body = "1\r\nab\n0\r\n\r\n" + smuggled
			}
			next := "GET " + target + "-next HTTP/1.1\r\nHost: api.example.test\r\n" + good + "Connection: close\r\n\r\n"
			if late.suffix == "-early" { // the gate forwards a request once its body has begun
				if framing == "length" {
					continue // the gate reads short bodies first
				}
				begun := 1
				if strings.Contains(framing, "chunks") {
					begun += strings.Index(body, "\n") + 1
				}
				head, body = head+body[:begun], body[begun:]
			}
			first, rest := r.late(t, head, body+next)
			if first != late.status {
				t.Errorf("%s, %s: got %d, want %d", late.name, framing, first, late.status)
			}
			mu.Lock()
			served := slices.Contains(targets, target+"-next")
			if slices.Contains(targets, target+"-smuggled") {
				t.Errorf("%s, %s: the upstream gets the body as a request", late.name, framing)
			}
			mu.Unlock()
			// The connection ends, or the next request is served.
			answered := slices.Equal(rest, []string{"200"})
			if len(rest) > 0 && !answered && !slices.Equal(rest, []string{"400"}) || answered != served || answered && framing == "malformed chunks" {
				t.Errorf("%s, %s: behind the body came %v, the next request served %t", late.name, framing, rest, served)
			}
		}
	}
	r.check(r.stop())
}

// late sends head, reads the status of the answer, sends the rest, and returns the statuses of all further
// answers.
func (r *reloading) late(t *testing.T, head, rest string) (first int, further []string) {
	t.Helper()
	conn, err := r.dialFrom("127.0.0.1", "northwind", "http/1.1")
	r.check(err)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, head)
	r.check(err)
	in := bufio.NewReader(conn)
	for first < 200 {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Errorf("%.40q: %v", head, err)
			return 0, nil
		}
		first = answer.StatusCode
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	_, _ = io.WriteString(conn, rest) // the gate may have ended the connection
	answers, _ := io.ReadAll(in)
	return first, statuses(string(answers))
}
