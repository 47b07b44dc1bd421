package fastpath

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// until is the last request of a connection: not plain, and the server closes.
const until = "GET /until HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n"

var dates = regexp.MustCompile(`Date: [A-Z][a-z]{2}, .* GMT\r\n`)

// answers are handlers of which it is told what a client must see: what it sees of net/http.
var answers = map[string]http.HandlerFunc{
	"nothing":  func(http.ResponseWriter, *http.Request) {},
	"text":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") },
	"HTML":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>fine") },
	"no bytes": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) },
	"two": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "fi")
		_, _ = io.WriteString(w, "ne")
	},
	"2048": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 2048)) },
	"2049": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 2049)) },
	"much": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) },
	"of a type": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		_, _ = io.WriteString(w, "fine")
	},
	"of no type": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "fine")
	},
	"compressed": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "fine")
	},
	"dated": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", "yesterday") },
	"fields": func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["B"], h["A"], h["x_y"], h["Bad name"], h["Evil"] = []string{"2", " 3 "}, []string{""}, []string{"ä"}, []string{"x"}, []string{"a\r\nInjected: b"}
		_, _ = io.WriteString(w, "fine")
	},
	"counted": func(w http.ResponseWriter, _ *http.Request) { declare(w, "4"); _, _ = io.WriteString(w, "fine") },
	"counted pieces": func(w http.ResponseWriter, _ *http.Request) {
		declare(w, "4")
		_, _ = io.WriteString(w, "fi")
		flush(w)
		_, _ = io.WriteString(w, "ne")
	},
	"counted much": func(w http.ResponseWriter, _ *http.Request) {
		declare(w, "100000")
		for range 10 {
			_, _ = io.WriteString(w, strings.Repeat("x", 10000))
		}
	},
	"too little": func(w http.ResponseWriter, _ *http.Request) { declare(w, "5"); _, _ = io.WriteString(w, "fine") },
	"too much": func(w http.ResponseWriter, _ *http.Request) {
		declare(w, "4")
		_, _ = io.WriteString(w, "fine")
		if _, err := io.WriteString(w, "!"); !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	},
	"length 0": func(w http.ResponseWriter, _ *http.Request) { declare(w, "0") },
	"chunks, said so": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Transfer-Encoding", "chunked")
		_, _ = io.WriteString(w, strings.Repeat("x", 3000))
	},
	"flushed": func(w http.ResponseWriter, _ *http.Request) { flush(w) },
	"flushed later": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "fi")
		flush(w)
		_, _ = io.WriteString(w, "ne")
		flush(w)
	},
	"events": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = io.WriteString(w, "data: x\n\n")
			flush(w)
		}
	},
	"200":          status(200),
	"204":          status(204),
	"204, counted": func(w http.ResponseWriter, _ *http.Request) { declare(w, "4"); w.WriteHeader(204); mustNot(w) },
	"304":          status(304),
	"304 of a type": func(w http.ResponseWriter, _ *http.Request) {
		declare(w, "4")
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(304)
		mustNot(w)
	},
	"404":             func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "none", 404) },
	"418":             status(418),
	"599":             status(599),
	"700":             status(700),
	"a second status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.WriteHeader(500) },
	"a field too late": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(201)
		w.Header().Set("Late", "x")
		_, _ = io.WriteString(w, "fine")
	},
	"100": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(100); _, _ = io.WriteString(w, "fine") },
	"103": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.Header().Set("Content-Length", "4")
		w.WriteHeader(103)
		_, _ = io.WriteString(w, "fine")
	},
	"close": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "fine")
	},
	"close, much": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, strings.Repeat("x", 3000))
	},
	"keep-alive": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "keep-alive") },
	"breaks off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"breaks off late": func(w http.ResponseWriter, _ *http.Request) {
		declare(w, "9")
		_, _ = io.WriteString(w, "fine")
		flush(w)
		panic(http.ErrAbortHandler)
	},
	"breaks chunks": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "fine")
		flush(w)
		panic(http.ErrAbortHandler)
	},
	"a trailer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Trailer"] = []string{"Sum, x-other , Content-Length", ""}
		_, _ = io.WriteString(w, "fine")
		w.Header().Set("Sum", "1")
		w.Header().Set("Other", "no trailer")
	},
	"a trailer without a body": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Sum")
		w.WriteHeader(200)
		w.Header().Set("Sum", "1")
	},
	"a trailer unannounced": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "fine")
		flush(w)
		w.Header().Set(http.TrailerPrefix+"Sum", "1")
	},
	"a trailer unannounced, too late": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "fine")
		w.Header().Set(http.TrailerPrefix+"Sum", "1")
	},
	"a trailer before": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(http.TrailerPrefix+"Sum", "1")
		_, _ = io.WriteString(w, "fine")
	},
	"a trailer of 204": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Trailer", "Sum"); w.WriteHeader(204) },
	"the request": func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %d %v %v %v %q %v", r.Method, r.RequestURI, r.Host, r.ContentLength, r.TransferEncoding, r.Header, r.TLS != nil, body, err)
	},
	"a body left unread": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1))
		_, _ = io.WriteString(w, "fine")
	},
	"a body closed": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
		_, _ = io.WriteString(w, "fine")
	},
}

func declare(w http.ResponseWriter, length string) { w.Header().Set("Content-Length", length) }

func flush(w http.ResponseWriter) {
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(err)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func mustNot(w http.ResponseWriter) {
	if _, err := io.WriteString(w, "fine"); !errors.Is(err, http.ErrBodyNotAllowed) {
		panic(err)
	}
}

// joined returns answers with all chunks of a body in one chunk, because the boundaries of chunks have
// no meaning.
func joined(answers string) string {
	var all strings.Builder
	for {
		head, rest, is := strings.Cut(answers, "Transfer-Encoding: chunked\r\n\r\n")
		all.WriteString(head)
		if !is {
			return dates.ReplaceAllString(all.String(), "Date: now\r\n")
		}
		all.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for answers = rest; ; {
			size, rest, _ := strings.Cut(answers, "\r\n")
			n, err := strconv.ParseInt(size, 16, 32)
			if n == 0 || err != nil || len(rest) < int(n)+2 {
				break
			}
			all.WriteString(rest[:n])
			answers = rest[n+2:]
		}
	}
}

// What a client gets, and whether it may ask again, is what it is with net/http, byte for byte.
func TestAnswers(t *testing.T) {
	for name, handler := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			counting := func(w http.ResponseWriter, r *http.Request) {
				if r.RequestURI != "/until" {
					asked++
				}
				handler(w, r)
			}
			fast, plain := newTestServer(t, counting, true), newTestServer(t, counting, false)
			for _, first := range []string{
				"GET /a?b HTTP/1.1\r\nHost: gate.test\r\nX: y\r\nx: z\r\n\r\n",
				"HEAD / HTTP/1.1\r\nHost: gate.test\r\n\r\n",
				"POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody",
				"POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 0\r\n\r\n\r\n",
				"PUT / HTTP/1.1\r\nHost: gate.test\r\n\r\n",
				"GET /1 HTTP/1.1\r\nHost: gate.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\n",
			} {
				asked = 0
				want := joined(plain.ask(t, first+until))
				wanted := asked
				asked = 0
				got := joined(fast.ask(t, first+until))
				if diff := cmp.Diff(want, got); diff != "" || asked != wanted {
					t.Errorf("%q was served %d times, want %d (-net/http +ours):\n%s", first, asked, wanted, diff)
				}
			}
			// The last answers may be read before the fast path lets go of their connections.
			gatetest.Eventually(t, "the fast path to serve all six", func() bool { return len(fast.left) == 6 })
			if n := len(plain.left); n != 0 {
				t.Errorf("%d of the others were served by the fast path", n)
			}
		})
	}
}

// Invalid lengths are not sent. net/http refuses some of them and sends others.
func TestInvalidLengths(t *testing.T) {
	for _, length := range []string{"x", "-4", "4, 4", "99999999999999999999"} {
		r := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) { declare(w, length); _, _ = io.WriteString(w, "fine") }, true)
		got := joined(r.ask(t, "GET / HTTP/1.1\r\nHost: gate.test\r\n\r\n"+until))
		if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 4\r\n") || strings.Count(got, "fine") != 2 {
			t.Errorf("with length %q: %q", length, got)
		}
	}
}

// A handler that breaks off leaves no half of a header, whose end a lenient client takes for
// that of the whole answer.
func TestHeaderThatBreaksOff(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"little": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") },
		"much": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 5000))
			w.WriteHeader(200)
		},
		"103": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); _, _ = io.WriteString(w, "fine") },
	} {
		r := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
			handler(w, r)
			panic(http.ErrAbortHandler)
		}, true)
		got := r.ask(t, get)
		if strings.Contains(got, "HTTP/1.1 200") && !strings.HasSuffix(got, "Transfer-Encoding: chunked\r\n\r\n") {
			t.Errorf("%s: %.300q", name, got)
		}
	}
}
