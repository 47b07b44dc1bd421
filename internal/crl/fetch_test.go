package crl

import (
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// Errors have a bounded part of a hostile response, and no query of the URL.
func TestAnswersOfAListServer(t *testing.T) {
	ca := testpki.NewCA("Root")
	for name, answer := range map[string]http.HandlerFunc{
		"a broken place": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://%zz/?"+r.URL.RawQuery)
			w.WriteHeader(http.StatusFound)
		},
		"another port": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/?"+r.URL.RawQuery, http.StatusFound)
		},
		"round and round": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) },
		"no HTTP": func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			_, _ = c.Write([]byte(strings.Repeat("\x1b[2J", 10000) + "\r\n\r\n"))
			_ = c.Close()
		},
		"a bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			zeros := make([]byte, 1<<20)
			for range 300 {
				_, _ = z.Write(zeros)
			}
			_ = z.Close()
		},
	} {
		s := httptest.NewServer(answer)
		h := newHarness(t, ca)
		h.at(s.URL + "/a.crl?secret=1")
		checker := h.load(nil)
		err := checker.FetchAdded(t.Context())
		if err == nil || strings.Contains(err.Error(), "secret") || len(err.Error()) > 1000 {
			t.Errorf("%s: %d bytes, %.300v", name, len(err.Error()), err)
		}
		s.Close()
	}
}
