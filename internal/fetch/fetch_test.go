package fetch

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func parseURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Responses are bounded whether or not they announce their length, and compressed responses are refused.
func TestSend(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "Application/JSON; charset=utf-8")
		switch r.URL.Path {
		case "/encoded":
			w.Header().Set("Content-Encoding", "gzip")
		case "/flushed": // without Content-Length
			_, _ = w.Write([]byte("1"))
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write([]byte(strings.Repeat("2", 9)))
	}))
	defer server.Close()
	client := &http.Client{Transport: NewTransport(nil)}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		path  string
		limit int64
		want  error
	}{
		{"/", 9, nil}, {"/", 8, ErrTooLarge}, {"/flushed", 10, nil}, {"/flushed", 9, ErrTooLarge}, {"/encoded", 100, ErrEncoded},
	} {
		request, err := NewRequest(t.Context(), parseURL(t, server.URL+c.path), "application/json", "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := Send(client, request, c.limit)
		if !errors.Is(err, c.want) {
			t.Errorf("Send of %s with limit %d = %v, want %v", c.path, c.limit, err, c.want)
		}
		if err == nil && (got.MediaType != "application/json" || got.Status != http.StatusOK || int64(len(got.Body)) != c.limit) {
			t.Errorf("Send of %s = %+v, want the whole response", c.path, got)
		}
	}
}

// Only a request with an ETag is conditional, and no header is sent empty.
func TestNewRequest(t *testing.T) {
	u := parseURL(t, "https://as.example/jwks")
	for _, c := range []struct{ accept, etag string }{{"", ""}, {"application/json", `"one"`}} {
		request, err := NewRequest(t.Context(), u, c.accept, c.etag)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"Accept": c.accept, "If-None-Match": c.etag} {
			if got, sent := request.Header[name]; sent != (want != "") || sent && got[0] != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
}

// No error quotes the URL, whose query may be secret.
func TestErrorsWithoutURL(t *testing.T) {
	for _, text := range []string{"http://127.0.0.1:1/?key=secret", "https://127.0.0.1:1/?key=secret"} {
		request, err := NewRequest(t.Context(), parseURL(t, text), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Send(&http.Client{Transport: NewTransport(nil)}, request, 1); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("Send to a closed port = %v, want an error without the query", err)
		}
	}
	broken := &url.URL{Scheme: "https", Host: "a\x7f", RawQuery: "key=secret"}
	if _, err := NewRequest(t.Context(), broken, "", ""); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("NewRequest of an invalid URL = %v, want an error without the query", err)
	}
}

// net/http quotes what it cannot parse. The errors do not, because a server can answer with the secrets of the
// request, and the errors are logged.
func TestErrorsQuoteNoAnswer(t *testing.T) {
	for _, answer := range []string{
		"canary\r\n\r\n", "HTTP/canary 200 OK\r\n\r\n", "HTTP/1.1 canary\r\n\r\n", "HTTP/1.1 200 OK\r\ncanary\r\n\r\n", "HTTP/1.1 200 OK\r\n canary: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: canary\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: canary\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ncanary\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://[canary\r\nContent-Length: 0\r\n\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}))
		client := &http.Client{Transport: NewTransport(nil)}
		request, err := NewRequest(t.Context(), parseURL(t, server.URL), "", "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = Send(client, request, 100)
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "HTTP") && !strings.Contains(err.Error(), "header") && !strings.Contains(err.Error(), "chunk") {
			t.Errorf("Send with the answer %q = %v, want an error that says what is malformed and quotes nothing", answer, err)
		}
		server.Close()
	}
}
