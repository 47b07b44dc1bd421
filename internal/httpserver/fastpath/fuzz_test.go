package fastpath

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// act does to w what a program of bytes says, two for each step.
func act(w http.ResponseWriter, r *http.Request, program []byte) {
	lengths := []string{"0", "4", "100", "2048", "3000"}
	for ; len(program) > 1; program = program[2:] {
		switch n := int(program[1]); program[0] % 12 {
		case 0:
			w.WriteHeader([]int{100, 102, 103, 200, 201, 204, 206, 301, 304, 400, 404, 500, 599, 799}[n%14])
		case 1:
			declare(w, lengths[n%len(lengths)])
		case 2, 3:
			_, _ = w.Write([]byte(strings.Repeat("x", n*n%4000)))
		case 4:
			flush(w)
		case 5:
			w.Header().Set("Content-Type", "text/x")
		case 6:
			w.Header().Set("Connection", []string{"close", "keep-alive", "x"}[n%3])
		case 7:
			w.Header().Set("Trailer", []string{"Sum", "Sum, Other", "Content-Length"}[n%3])
		case 8:
			w.Header().Set([]string{"Sum", http.TrailerPrefix + "Sum", "Other", "Date", "X"}[n%5], "1")
		case 9:
			_, _ = io.WriteString(w, []string{"<html>", "%PDF-", "{}", "\x00"}[n%4])
		case 10:
			_, _ = io.ReadFull(r.Body, make([]byte, n%8))
		case 11:
			if n > 250 {
				panic(http.ErrAbortHandler)
			}
		}
	}
}

// aborts reports whether act panics in the course of program.
func aborts(program []byte) bool {
	for ; len(program) > 1; program = program[2:] {
		if program[0]%12 == 11 && program[1] > 250 {
			return true
		}
	}
	return false
}

// Whatever a handler does, its client sees what it would see of net/http. An answer that the
// handler aborts is compared up to where the shorter of both ends: net/http drops what its
// buffers hold at that moment, the fast path sends it. Neither may send the last chunk then.
func FuzzAnswers(f *testing.F) {
	var program atomic.Pointer[[]byte]
	handler := func(w http.ResponseWriter, r *http.Request) { act(w, r, *program.Load()) }
	fast, plain := newTestServer(f, handler, true), newTestServer(f, handler, false)
	for _, seed := range [][]byte{
		{}, {2, 9}, {1, 1, 9, 2}, {1, 1, 2, 60}, {4, 0, 9, 1, 4, 0}, {0, 5, 2, 9}, {0, 8, 5, 0}, {7, 0, 2, 9, 8, 0}, {2, 9, 4, 0, 8, 1}, {0, 2, 0, 3, 2, 50},
		{6, 0, 2, 61}, {2, 63, 2, 63}, {11, 255}, {2, 5, 4, 0, 11, 255}, {1, 2, 2, 3, 4, 0, 11, 255}, {8, 3, 9, 0}, {10, 3, 0, 3}, {1, 0}, {8, 1, 9, 0}, {0, 13, 9, 3}, {1, 3, 2, 65, 9, 3},
		{9, 0, 2, 48, 11, 255}, // aborted with more than net/http's 2 KiB buffer holds
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		program.Store(&steps)
		for _, first := range []string{
			"GET / HTTP/1.1\r\nHost: gate.test\r\n\r\n",
			"HEAD / HTTP/1.1\r\nHost: gate.test\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody",
		} {
			raw := fast.ask(t, first+until)
			<-fast.left
			want, got := joined(plain.ask(t, first+until)), joined(raw)
			if got == "" && !strings.Contains(want, "\r\n\r\n") { // a header that breaks off is not begun
				continue
			}
			if aborts(steps) {
				if strings.Contains(raw, "chunked\r\n") && strings.Contains(raw, "\r\n0\r\n") {
					t.Errorf("%v, %.4q: the aborted answer has a last chunk: %q", steps, first, raw)
				}
				n := min(len(want), len(got))
				want, got = want[:n], got[:n]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%v, %.4q (-net/http +ours):\n%s", steps, first, diff)
			}
		}
	})
}
