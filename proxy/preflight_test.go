package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// withPreflights adds a route that answers preflights, and a route whose only method is OPTIONS.
func withPreflights(cfg *config.Config) {
	for path, preflight := range map[string]config.Preflight{"/browser/{id}": config.PreflightAllow, "/plain/{id}": ""} {
		pattern, err := urlpath.ParsePattern(path)
		if err != nil {
			panic(err)
		}
		cfg.APIs[0].Routes = append(cfg.APIs[0].Routes, config.Route{Methods: []config.Method{"GET", "OPTIONS"}, Path: pattern, Preflight: preflight})
	}
	cfg.IdentityHeaders.Certificate = "Client-Cert"
}

const preflightLines = "Origin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n"

// A preflight is granted without certificate and token, on the routes that answer preflights. Everything
// else that resembles one is refused, and nothing of it reaches the upstream.
func TestPreflight(t *testing.T) {
	var mu sync.Mutex
	var received []*http.Request
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		received = append(received, r)
		w.Header().Set("Link", "</secret>")
		w.WriteHeader(http.StatusEarlyHints)
		for name, value := range map[string]string{
			"Access-Control-Allow-Origin": "https://app.example", "Access-Control-Allow-Methods": "GET, PUT", "Vary": "Origin",
			"Set-Cookie": "secret=1", "X-Secret": "1", "Content-Type": "text/plain", "Tallygate-Partner": "northwind",
		} {
			w.Header().Set(name, value)
		}
		_, _ = io.WriteString(w, "secret") // as an API that handles OPTIONS like GET
	}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, t.Output(), withPreflights)
	address := s.listen(t)
	// Each request has a connection of its own. A certificate on it makes no difference.
	type reply struct {
		status int
		header http.Header
		body   string
		hints  bool // a 103 has arrived before
	}
	send := func(certificate bool, text string) (got reply) {
		t.Helper()
		settings := s.clientConfig("http/1.1")
		if !certificate {
			settings.Certificates = nil
		}
		conn, err := tls.Dial("tcp", address, settings)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		for reader := bufio.NewReader(conn); got.status < 200; {
			response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodOptions})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || response.Body.Close() != nil {
				t.Fatal(err)
			}
			got = reply{response.StatusCode, response.Header, string(body), got.hints || response.StatusCode == http.StatusEarlyHints}
		}
		return got
	}
	const host = " HTTP/1.1\r\nHost: api.example.test\r\n"
	forged := "Tallygate-Partner: northwind\r\nX-HTTP-Method-Override: GET\r\nX-Anything: 1\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: X-Request-Id\r\n"
	for _, certificate := range []bool{false, true} {
		received = nil
		query := "?"
		if certificate {
			query = "?_method=DELETE"
		}
		response := send(certificate, "OPTIONS /browser/7"+query+host+preflightLines+"Access-Control-Request-Headers: authorization\r\n"+forged+"\r\n")
		if response.status != http.StatusOK || response.body != "" || response.hints || len(received) != 1 {
			t.Fatalf("certificate %t: got status %d, body %q, a 103 %t, %d requests at the upstream, want 200, no body, no 103, 1", certificate, response.status, response.body, response.hints, len(received))
		}
		got := received[0]
		var names []string
		for name := range got.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		want := []string{"Access-Control-Request-Headers", "Access-Control-Request-Method", "Origin", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id"}
		if !slices.Equal(names, want) || got.Method != http.MethodOptions || got.RequestURI != "/browser/7" || got.Host != "api.example.test" || got.Header.Get("X-Forwarded-For") != "127.0.0.1" {
			t.Errorf("certificate %t: the upstream got %s %s with %v, want OPTIONS /browser/7 with %v", certificate, got.Method, got.RequestURI, got.Header, want)
		}
		for _, name := range []string{"Link", "Set-Cookie", "X-Secret", "Content-Type", "Tallygate-Partner"} {
			if response.header.Get(name) != "" {
				t.Errorf("the response has %s: %s, want it removed", name, response.header.Get(name))
			}
		}
		if response.header.Get("Access-Control-Allow-Methods") != "GET, PUT" || response.header.Get("Vary") != "Origin" {
			t.Errorf("the response lacks what a browser needs: %v", response.header)
		}
	}

	for name, text := range map[string]string{
		"a route without preflight":        "OPTIONS /plain/7" + host + preflightLines + "\r\n",
		"a route without OPTIONS":          "OPTIONS /accounts/7" + host + preflightLines + "\r\n",
		"no route":                         "OPTIONS /nowhere" + host + preflightLines + "\r\n",
		"GET":                              "GET /browser/7" + host + preflightLines + "\r\n",
		"POST with an override":            "POST /browser/7" + host + preflightLines + "X-HTTP-Method-Override: OPTIONS\r\nContent-Length: 0\r\n\r\n",
		"options in lower case":            "options /browser/7" + host + preflightLines + "\r\n",
		"no Origin":                        "OPTIONS /browser/7" + host + "Access-Control-Request-Method: PUT\r\n\r\n",
		"two lines of Origin":              "OPTIONS /browser/7" + host + preflightLines + "Origin: null\r\n\r\n",
		"two origins":                      "OPTIONS /browser/7" + host + "Origin: https://a.test, https://b.test\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
		"an Origin that is none":           "OPTIONS /browser/7" + host + "Origin: yes\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
		"no Access-Control-Request-Method": "OPTIONS /browser/7" + host + "Origin: null\r\n\r\n",
		"two methods":                      "OPTIONS /browser/7" + host + "Origin: null\r\nAccess-Control-Request-Method: PUT, GET\r\n\r\n",
		"an empty method":                  "OPTIONS /browser/7" + host + "Origin: null\r\nAccess-Control-Request-Method:\r\n\r\n",
		"a body":                           "OPTIONS /browser/7" + host + preflightLines + "Content-Length: 4\r\n\r\nbody",
		"a chunked body":                   "OPTIONS /browser/7" + host + preflightLines + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"an upgrade":                       "OPTIONS /browser/7" + host + preflightLines + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"a cookie":                         "OPTIONS /browser/7" + host + preflightLines + "Cookie: a=b\r\n\r\n",
		"a token that is none":             "OPTIONS /browser/7" + host + preflightLines + "Authorization: Bearer x\r\n\r\n",
		"a DPoP proof":                     "OPTIONS /browser/7" + host + preflightLines + "DPoP: x\r\n\r\n",
		"other credentials":                "OPTIONS /browser/7" + host + preflightLines + "Authorization: Basic eDp5\r\n\r\n",
		"an encoded segment":               "OPTIONS /browser/%37" + host + preflightLines + "\r\n",
		"a path that leads elsewhere":      "OPTIONS /browser/../accounts/7" + host + preflightLines + "\r\n",
		"another host":                     "OPTIONS /browser/7 HTTP/1.1\r\nHost: other.test\r\n" + preflightLines + "\r\n",
	} {
		received = nil
		if response := send(false, text); response.status < 400 || len(received) != 0 {
			t.Errorf("%s: got status %d, %d requests at the upstream, want a refusal and none", name, response.status, len(received))
		}
	}

	// OPTIONS with a certificate and a token is a request like others, and gets the whole response.
	received = nil
	response := send(true, "OPTIONS /browser/7"+host+preflightLines+"Authorization: Bearer "+s.token+"\r\n\r\n")
	if response.status != http.StatusOK || response.body != "secret" || !response.hints || len(received) != 1 || received[0].Header.Get("Tallygate-Partner") != "northwind" {
		t.Errorf("with a token: got %+v, %d requests at the upstream, want the API's response with a 103, and identity headers", response, len(received))
	}
}

// Preflights take a ninth of the slots of the upstream at most, and leave the rest to partners.
func TestPreflightLimits(t *testing.T) {
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, t.Output(), withPreflights, func(cfg *config.Config) { cfg.APIs[0].Upstream.Requests = 18 })
	preflight := func() *http.Request {
		r := s.request()
		r.Method, r.RequestURI = http.MethodOptions, "/browser/7"
		r.URL.Path, r.URL.RawQuery, r.TLS.PeerCertificates = "/browser/7", "", nil
		r.Header = http.Header{"Origin": {"null"}, "Access-Control-Request-Method": {"PUT"}}
		return r
	}
	var running sync.WaitGroup
	for i := range 2 { // (18 - 2) / 8 = 2
		running.Go(func() {
			w := httptest.NewRecorder()
			s.proxy.ServeHTTP(w, preflight())
			if w.Code != http.StatusOK {
				t.Errorf("preflight %d: got %d, want 200", i, w.Code)
			}
		})
		<-arrived
	}
	w := httptest.NewRecorder()
	s.proxy.ServeHTTP(w, preflight())
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "overloaded") {
		t.Errorf("preflight 3: got %d %s, want 503 overloaded", w.Code, w.Body)
	}
	running.Go(func() {
		w := httptest.NewRecorder()
		s.proxy.ServeHTTP(w, s.request())
		if w.Code != http.StatusOK {
			t.Errorf("a partner beside preflights: got %d, want 200", w.Code)
		}
	})
	<-arrived
	close(release)
	running.Wait()
	w = httptest.NewRecorder()
	if s.proxy.ServeHTTP(w, preflight()); w.Code != http.StatusOK {
		t.Errorf("a preflight after the end of the others: got %d, want 200", w.Code)
	}
}
