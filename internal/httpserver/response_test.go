package httpserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/http1"
)

// An answer is a response as a client reads it.
type answer struct {
	Status  int
	Header  http.Header
	Length  int64
	Body    string
	Trailer http.Header
	Last    bool
	Err     string // why the body is not whole
}

// readAnswers reads all responses until the connection ends. methods are the methods of the requests.
// Informational responses are left out.
func readAnswers(from io.Reader, methods ...string) (all []answer) {
	in := bufio.NewReader(from)
	for len(methods) > 0 {
		r, err := http.ReadResponse(in, &http.Request{Method: methods[0]})
		if err != nil {
			return all
		}
		defer func() { _ = r.Body.Close() }()
		body, err := io.ReadAll(r.Body)
		a := answer{Status: r.StatusCode, Header: r.Header, Length: r.ContentLength, Body: string(body), Trailer: r.Trailer, Last: r.Close}
		if err != nil {
			a.Err = "broken off"
		}
		a.Header.Del("Date")
		a.Header.Del("Connection") // in Last
		if a.Status >= 200 {
			methods = methods[1:]
			all = append(all, a)
		}
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		all = append(all, answer{Body: string(rest), Err: "bytes after the last response"})
	}
	return all
}

// standard serves handler with net/http.
func standard(t testing.TB, handler http.HandlerFunc) *testServer {
	return newTestServer(t, handler, plain, func(s *Server) {
		s.Standard = &http.Server{Handler: handler, ErrorLog: s.ErrorLog}
	})
}

func declare(w http.ResponseWriter, length string) { w.Header().Set("Content-Length", length) }

func flush(w http.ResponseWriter) {
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(err)
	}
}

// act calls the methods of w that program encodes. Each step of program has two bytes.
func act(w http.ResponseWriter, r *http.Request, program []byte) {
	w.Header().Set("Content-Type", "text/x") // net/http guesses types
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
			w.Header().Set("X", "y")
		case 6:
			w.Header().Set("Connection", []string{"close", "keep-alive", "x"}[n%3])
		case 7, 8:
			w.Header().Set([]string{"Other", "Date", "X"}[n%3], "1")
		case 9:
			_, _ = io.WriteString(w, []string{"<html>", "%PDF-", "{}", "\x00"}[n%4])
		case 10:
			_, _ = io.Copy(io.Discard, r.Body)
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

// A client reads the same responses from this server and from net/http, for all that a handler can do.
// Fields for the connection and unknown lengths may differ in their form. A response that the handler
// aborts, or whose body is shorter than declared, is broken off in both.
func FuzzAnswers(f *testing.F) {
	var program atomic.Pointer[[]byte]
	handler := func(w http.ResponseWriter, r *http.Request) { act(w, r, *program.Load()) }
	ours, theirs := newTestServer(f, handler), standard(f, handler)
	for _, seed := range [][]byte{
		{}, {2, 9}, {1, 1, 9, 2}, {1, 1, 2, 60}, {4, 0, 9, 1, 4, 0}, {0, 5, 2, 9}, {0, 8, 5, 0}, {7, 0, 2, 9, 8, 0}, {2, 9, 4, 0, 8, 1}, {0, 2, 0, 3, 2, 50},
		{6, 0, 2, 61}, {2, 63, 2, 63}, {11, 255}, {2, 5, 4, 0, 11, 255}, {1, 2, 2, 3, 4, 0, 11, 255}, {8, 3, 9, 0}, {10, 3, 0, 3}, {1, 0}, {8, 1, 9, 0}, {0, 13, 9, 3}, {1, 3, 2, 65, 9, 3},
		{9, 0, 2, 48, 11, 255}, {0, 0, 9, 0}, {0, 8, 1, 1}, {1, 1, 0, 8}, {1, 1, 0, 5}, {6, 1, 9, 0}, {7, 2, 9, 0}, {1, 2, 9, 2, 4, 0}, {2, 48, 6, 48, 0, 48},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		program.Store(&steps)
		for _, first := range []string{
			get,
			"HEAD / HTTP/1.1\r\nHost: gate.test\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
			"GET / HTTP/1.0\r\n\r\n",
		} {
			method, _, _ := strings.Cut(first, " ")
			methods := []string{method, "GET"}
			if strings.Contains(first, "close") || strings.Contains(first, "1.0") {
				methods = methods[:1]
			}
			gotBytes, wantBytes := ours.ask(t, first+until), theirs.ask(t, first+until)
			got, want := readAnswers(strings.NewReader(gotBytes), methods...), readAnswers(strings.NewReader(wantBytes), methods...)
			if aborts(steps) {
				for _, a := range got {
					if a.Err == "" && a.Length < 0 && !strings.HasSuffix(first, "1.0\r\n\r\n") {
						t.Errorf("%v, %.20q: the aborted response looks whole: %q", steps, first, gotBytes)
					}
				}
				return
			}
			for i := range min(len(got), len(want)) {
				if got[i].Status == 304 || got[i].Status == 204 || method == "HEAD" { // net/http is not consistent about the length of a body that is not sent
					got[i].Length, want[i].Length = 0, 0
					got[i].Header.Del("Content-Length")
					want[i].Header.Del("Content-Length")
					want[i].Header.Del("Content-Type")
					got[i].Header.Del("Content-Type")
				}
				if got[i].Length < 0 || want[i].Length < 0 { // net/http holds 2 KiB back, and not before a trailer
					got[i].Length, want[i].Length = 0, 0
					got[i].Header.Del("Content-Length")
					want[i].Header.Del("Content-Length")
				}
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%v, %.20q (-net/http +ours):\n%s\n%q\n%q", steps, first, diff, wantBytes, gotBytes)
			}
		}
	})
}

// Handlers of responses that they forward.
func TestWriteFields(t *testing.T) {
	fields := []http1.Field{{Name: "x-Odd", Value: "1"}, {Name: "Set-Cookie", Value: "a"}, {Name: "Set-Cookie", Value: "b"}, {Name: "Date", Value: "yesterday"}}
	const head = "x-Odd: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: yesterday\r\n"
	for name, c := range map[string]struct {
		request string
		handler func(http1.ResponseWriter)
		want    string
	}{
		"a length": {get, func(w http1.ResponseWriter) {
			w.WriteFields(200, fields, 4)
			_, _ = io.WriteString(w, "fine")
		}, "HTTP/1.1 200 OK\r\n" + head + "Content-Length: 4\r\n\r\nfine"},
		"chunks and a trailer": {get, func(w http1.ResponseWriter) {
			w.WriteFields(500, fields, http1.Chunked)
			_, _ = io.WriteString(w, "fine")
			w.SetTrailer([]http1.Field{{Name: "sum", Value: "4"}})
		}, "HTTP/1.1 500 Internal Server Error\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nsum: 4\r\n\r\n"},
		"a close": {get, func(w http1.ResponseWriter) {
			w.CloseAfter()
			w.WriteFields(200, fields, 0)
		}, "HTTP/1.1 200 OK\r\n" + head + "Content-Length: 0\r\nConnection: close\r\n\r\n"},
		"HEAD with a length": {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", func(w http1.ResponseWriter) {
			w.WriteFields(200, fields, 4)
			_, _ = io.WriteString(w, "fine")
		}, "HTTP/1.1 200 OK\r\n" + head + "Content-Length: 4\r\n\r\n"},
		"HEAD without a length": {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", func(w http1.ResponseWriter) { w.WriteFields(200, fields, http1.UntilClose) }, "HTTP/1.1 200 OK\r\n" + head + "\r\n"},
		"204":                   {get, func(w http1.ResponseWriter) { w.WriteFields(204, fields, 4) }, "HTTP/1.1 204 No Content\r\n" + head + "\r\n"},
		"304":                   {get, func(w http1.ResponseWriter) { w.WriteFields(304, fields, 4) }, "HTTP/1.1 304 Not Modified\r\n" + head + "Content-Length: 4\r\n\r\n"},
		"103": {get, func(w http1.ResponseWriter) {
			w.WriteFields(103, fields[:1], http1.UntilClose)
			w.WriteFields(200, fields, 0)
		}, "HTTP/1.1 103 Early Hints\r\nx-Odd: 1\r\n\r\nHTTP/1.1 200 OK\r\n" + head + "Content-Length: 0\r\n\r\n"},
		"HTTP/1.0": {"GET / HTTP/1.0\r\n\r\n", func(w http1.ResponseWriter) {
			w.WriteFields(103, fields[:1], http1.UntilClose)
			w.WriteFields(200, fields, http1.Chunked)
			_, _ = io.WriteString(w, "fine")
		}, "HTTP/1.1 200 OK\r\n" + head + "Connection: close\r\n\r\nfine"},
	} {
		s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.RequestURI != "/until" {
				c.handler(w.(http1.ResponseWriter))
			}
		})
		got, _, _ := strings.Cut(s.ask(t, c.request+until), "HTTP/1.1 200 OK\r\nDate: ") // the last header belongs to the response to until
		if got != c.want {
			t.Errorf("%s: got\n%q\nwant\n%q", name, got, c.want)
		}
	}
}

// Handlers cannot inject fields or responses. An invalid field ends the connection without a response.
func TestInvalidFields(t *testing.T) {
	for _, field := range [][2]string{{"X", "a\r\nY: b"}, {"X", "a\n"}, {"X", "a\x00"}, {"X Y", "a"}, {"", "a"}, {"X:", "a"}, {"Content-Length", "1\r\nX: y"}} {
		s := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Header()[field[0]] = []string{field[1]} })
		if got := s.ask(t, get); got != "" || len(s.panics) != 1 {
			t.Errorf("field %q: got %q and %d panics, want a panic and no response", field, got, len(s.panics))
		}
	}
	for _, length := range []string{"x", "-4", "4, 4", "+4", "99999999999999999999"} {
		s := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) { declare(w, length); _, _ = io.WriteString(w, "fine") })
		if got := s.ask(t, get+until); strings.Count(got, "Content-Length: 4\r\n") != 2 || strings.Contains(got, length+"\r\n") {
			t.Errorf("length %q: got %q", length, got)
		}
	}
}

// A response that breaks off has the whole header or no part of it, and never looks whole.
func TestResponseThatBreaksOff(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"little": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") },
		"much header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 5000))
			w.WriteHeader(200)
		},
		"much body": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 50000)) },
		"flushed":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine"); flush(w) },
		"declared": func(w http.ResponseWriter, _ *http.Request) {
			declare(w, "5")
			_, _ = io.WriteString(w, "fine")
			flush(w)
		},
		"after a 103":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); _, _ = io.WriteString(w, "fine") },
		"short, whole": func(w http.ResponseWriter, _ *http.Request) { declare(w, "4"); _, _ = io.WriteString(w, "fine") },
	} {
		for _, version := range []string{"1.1", "1.0"} {
			for _, change := range []func(*Server){plain, func(*Server) {}} {
				s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
					handler(w, r)
					panic(http.ErrAbortHandler)
				}, change)
				c := s.dial(t)
				send(t, c, "GET / HTTP/"+version+"\r\nHost: a\r\n\r\n")
				all, err := io.ReadAll(c)
				_, final, _ := strings.Cut(string(all), "HTTP/1.1 200")
				if final != "" && !strings.Contains(final, "\r\n\r\n") {
					t.Errorf("%s, HTTP/%s: the header is not whole: %.300q", name, version, all)
				}
				for _, a := range readAnswers(strings.NewReader(string(all)), "GET") {
					if a.Err == "" && (version == "1.1" || err == nil) {
						t.Errorf("%s, HTTP/%s: the response looks whole: %.300q, %v", name, version, all, err)
					}
				}
			}
		}
	}
}

// A response that is shorter than declared ends the connection.
func TestShortResponse(t *testing.T) {
	s := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) {
		declare(w, "5")
		_, _ = io.WriteString(w, "fine")
	})
	if got := s.ask(t, get+get); strings.Count(got, "HTTP/1.1 200") != 1 || !strings.HasSuffix(got, "fine") {
		t.Errorf("got %q, want one response of 4 bytes", got)
	}
}

// 100 Continue is sent when the handler reads the body, and not after the final header.
func TestContinue(t *testing.T) {
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/refused" {
			w.WriteHeader(403)
			return
		}
		echo(w, r)
	})
	for _, expect := range []string{"100-continue", "100-Continue"} {
		c := s.dial(t)
		in := bufio.NewReader(c)
		for _, framing := range []struct{ field, body string }{{"Content-Length: 4", "body"}, {"Transfer-Encoding: chunked", "4\r\nbody\r\n0\r\n\r\n"}} {
			send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: "+expect+"\r\n"+framing.field+"\r\n\r\n")
			if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("got %q, %v, want 100 Continue", line, err)
			}
			_, _ = in.ReadString('\n')
			send(t, c, framing.body)
			next(t, in, "POST / body")
		}
	}
	for text, want := range map[string]string{
		"POST /refused HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n":  "HTTP/1.1 403 ",
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n" + until: "HTTP/1.1 200 ",
		"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody":                "HTTP/1.1 200 ",
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: bogus\r\nContent-Length: 4\r\n\r\nbody":            "HTTP/1.1 417 ",
		"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n":                            "HTTP/1.1 417 ",
	} {
		if got := s.ask(t, text); !strings.HasPrefix(got, want) || strings.Contains(got, " 100 ") {
			t.Errorf("%q is answered with %q, want %q", text, got, want)
		}
	}
}

// A client that still sends its body gets the response to it, and no reset.
func TestEarlyAnswer(t *testing.T) {
	for name, change := range map[string]func(*Server){"TLS": func(*Server) {}, "no TLS": plain} {
		s := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(413)
			_, _ = io.WriteString(w, "too large")
		}, change)
		for _, framing := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
			c := s.dial(t)
			send(t, c, "POST / HTTP/1.1\r\nHost: a\r\n"+framing+"\r\n\r\n")
			in := bufio.NewReader(c)
			a, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(a.Body)
			_ = a.Body.Close()
			if a.StatusCode != 413 || !a.Close || string(body) != "too large" || err != nil {
				t.Errorf("%s, %s: got %d, close %t, %q, %v", name, framing, a.StatusCode, a.Close, body, err)
			}
			for range 3 { // a closed socket would answer the first with a reset, and a later write would fail
				send(t, c, strings.Repeat("x", 1000))
				time.Sleep(10 * time.Millisecond)
			}
			if _, err := in.ReadByte(); err != io.EOF {
				t.Errorf("%s, %s: the connection ends with %v, want EOF", name, framing, err)
			}
		}
	}
}

// A handler that takes the connection gets all bytes after the request, and the server counts the
// connection until the handler returns.
func TestTakeConn(t *testing.T) {
	s := quick(newTestServer(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(10 * time.Millisecond) // the server watches the client by now
		c, early, err := w.(http1.ResponseWriter).TakeConn()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("Write after TakeConn returned %v, want ErrHijacked", err)
		}
		all := io.MultiReader(bytes.NewReader(early), c)
		_, _ = fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_, _ = io.Copy(c, all)
	}))
	for _, pieces := range [][]string{{get + "early\nlate"}, {get, "early\nlate"}, {get, "e", "arly\n", "late"}} {
		c := s.dial(t)
		for _, piece := range pieces {
			send(t, c, piece)
			time.Sleep(5 * time.Millisecond)
		}
		_ = c.(*tls.Conn).CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "HTTP/1.1 101 Switching Protocols\r\n\r\nearly\nlate" {
			t.Errorf("%q: got %q, %v", pieces, got, err)
		}
	}
	gatetest.EventuallyEqual(t, "open connections", 0, s.open)
	s = newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.RequestURI {
		case "/until":
			return
		case "/begun":
			w.WriteHeader(200)
		}
		if c, _, err := w.(http1.ResponseWriter).TakeConn(); err == nil {
			t.Errorf("%s: TakeConn returned %v, want an error", r.RequestURI, c)
		}
	})
	for _, request := range []string{"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n", "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"} {
		_ = s.ask(t, request+until)
	}
}

// A handler that keeps its ResponseWriter cannot write into the response of a later request.
func TestWriteAfterReturn(t *testing.T) {
	kept := make(chan http.ResponseWriter, 3)
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		kept <- w
		if r.RequestURI == "/until" {
			for range 2 {
				w := <-kept
				if _, err := w.Write([]byte("late")); (err == nil) != (len(kept) == 0) {
					t.Errorf("Write returned %v, and %d writers are left", err, len(kept))
				}
				w.WriteHeader(103)
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
	if got := s.ask(t, get+until); strings.Count(got, "HTTP/1.1 ") != 2 || strings.Count(got, "late") != 1 {
		t.Errorf("got %q, want two responses and the text of the second only", got)
	}
}
