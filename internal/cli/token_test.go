package cli

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/tokenclient"
)

const (
	wellKnown  = "/.well-known/oauth-authorization-server"
	goodAnswer = `{"access_token":"the.token","token_type":"Bearer","expires_in":300}`
)

// An answer is the response of the test server for a path.
type answer struct {
	status   int
	body     string
	location string
}

// A received request is a request that reached the test server.
type received struct {
	Path          string
	Method        string
	Form          url.Values
	ContentType   string
	Authorization string
	Thumbprint    string // the thumbprint of the certificate of the request
}

// A tokenServer is an authorization server on loopback that requests client certificates, and a
// client.
type tokenServer struct {
	url    string
	ca     *testpki.Pair
	client *testpki.Pair
	dir    string
	flags  map[string]string // flags of the command
	over   chan struct{}     // closed when the test ends

	mu       sync.Mutex
	answers  map[string]answer // by path
	received []received
}

// newTokenServer starts the server. edits change its TLS settings.
func newTokenServer(t *testing.T, edits ...func(*tls.Config)) *tokenServer {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	w := &tokenServer{over: make(chan struct{}), dir: t.TempDir(), ca: testpki.NewCA("server ca"), client: testpki.NewCA("partner ca").Leaf("ledger")}
	s := httptest.NewUnstartedServer(w)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // many of the handshakes are meant to fail
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{w.ca.Leaf("as", testpki.IP("127.0.0.1")).TLS()},
		ClientAuth:   tls.RequestClientCert,
		ClientCAs:    testpki.Pool(w.ca), // the authorities that the server names to the client, not the authorities of its own certificate
	}
	for _, edit := range edits {
		edit(s.TLS)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(w.over) })

	w.url = s.URL
	cert, key := w.client.Write(w.dir, "client")
	ca, _ := w.ca.Write(w.dir, "ca")
	w.flags = map[string]string{"metadata": w.url, "cert": cert, "key": key, "ca": ca, "client-id": "northwind-ledger"}
	w.answer(map[string]answer{wellKnown: w.metadata(nil), "/mtls": {status: http.StatusOK, body: goodAnswer + "\n"}})
	return w
}

// answer sets the responses by path, and clears what the server has received.
func (w *tokenServer) answer(answers map[string]answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers, w.received = answers, nil
}

// metadata returns valid metadata of the server with edits merged over it.
func (w *tokenServer) metadata(edits testpki.M) answer {
	m := testpki.M{
		"issuer":                w.url,
		"token_endpoint":        w.url + "/plain",
		"mtls_endpoint_aliases": testpki.M{"token_endpoint": w.url + "/mtls"},
	}
	for name, value := range edits {
		m[name] = value
		if value == nil {
			delete(m, name)
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return answer{status: http.StatusOK, body: string(body)}
}

func (w *tokenServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	got := received{Path: r.URL.Path, Method: r.Method, ContentType: r.Header.Get("Content-Type"), Authorization: r.Header.Get("Authorization")}
	if len(r.TLS.PeerCertificates) > 0 {
		got.Thumbprint = (&testpki.Pair{Cert: r.TLS.PeerCertificates[0]}).Thumbprint()
	}
	_ = r.ParseForm()
	got.Form = r.PostForm
	w.mu.Lock()
	w.received = append(w.received, got)
	a, ok := w.answers[r.URL.Path]
	w.mu.Unlock()
	if !ok {
		http.NotFound(rw, r)
		return
	}
	if a.status == 0 { // no answer at all, also to a client that just gives up
		<-w.over
		return
	}
	if a.location != "" {
		rw.Header().Set("Location", a.location)
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(a.status)
	_, _ = io.WriteString(rw, a.body)
}

// paths returns the requested paths in order.
func (w *tokenServer) paths() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var paths []string
	for _, r := range w.received {
		paths = append(paths, r.Path)
	}
	return paths
}

// fetch runs the command with w's flags and args.
func (w *tokenServer) fetch(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	all := []string{"token"}
	for name, value := range w.flags {
		all = append(all, "--"+name, value)
	}
	code, stdout, stderr = command(t, append(all, args...)...)
	if code != ExitOK && (stdout != "" || strings.Contains(stderr, "the.token") || strings.Contains(stderr, "BEGIN")) {
		t.Errorf("output %q and words %q hold something of the token or a key", stdout, stderr)
	}
	return code, stdout, stderr
}

func TestToken(t *testing.T) {
	w := newTokenServer(t)
	code, stdout, stderr := w.fetch(t, "--scope", "accounts:read accounts:write")
	if code != ExitOK || stdout != "the.token\n" || stderr != "" {
		t.Errorf("got exit code %d, output %q and words %q, want the token alone", code, stdout, stderr)
	}
	want := []received{
		{Path: wellKnown, Method: "GET", Form: url.Values{}, Thumbprint: w.client.Thumbprint()},
		{ // RFC 6749 section 4.4.2, RFC 8705 section 2
			Path: "/mtls", Method: "POST", ContentType: "application/x-www-form-urlencoded", Thumbprint: w.client.Thumbprint(),
			Form: url.Values{"grant_type": {"client_credentials"}, "client_id": {"northwind-ledger"}, "scope": {"accounts:read accounts:write"}},
		},
	}
	if diff := cmp.Diff(want, w.received); diff != "" {
		t.Error(diff)
	}
}

func TestTokenJSON(t *testing.T) {
	w := newTokenServer(t)
	if code, stdout, stderr := w.fetch(t, "-o", "json"); code != ExitOK || stdout != goodAnswer+"\n" || stderr != "" {
		t.Errorf("got exit code %d, output %q and words %q, want the answer as it came", code, stdout, stderr)
	}
	if form := w.received[1].Form; form.Has("scope") {
		t.Errorf("got form %v, want no scope where none was named", form)
	}
}

// RFC 8414 sections 3 and 3.3, OpenID Connect Discovery section 4.
func TestTokenIssuer(t *testing.T) {
	const openID = "/.well-known/openid-configuration"
	w := newTokenServer(t)
	for _, tt := range []struct {
		asked  string // behind the server's address
		place  string // the path of the metadata
		issuer string // the paths that the metadata names, behind the server's address
		want   int
	}{
		{"", wellKnown, "", ExitOK},
		{"/", wellKnown, "/", ExitOK},
		{"/a/b", wellKnown + "/a/b", "/a/b", ExitOK},
		{"/a/b/", wellKnown + "/a/b", "/a/b/", ExitOK},
		{wellKnown, wellKnown, "", ExitOK},
		{wellKnown, wellKnown, "/", ExitOK},
		{wellKnown + "/a", wellKnown + "/a", "/a", ExitOK},
		{openID, openID, "", ExitOK},
		{"/a" + openID, "/a" + openID, "/a", ExitOK},
		{openID + "/a", openID + "/a", "/a", ExitOK},

		{"", wellKnown, "/", ExitFailure},
		{"/", wellKnown, "", ExitFailure},
		{"", wellKnown, "/other", ExitFailure},
		{"/a", wellKnown + "/a", "/A", ExitFailure},
		{wellKnown, wellKnown, "/a", ExitFailure},
		{wellKnown + "/a", wellKnown + "/a", "", ExitFailure},
		{wellKnown + "/a", wellKnown + "/a", "/a?b", ExitFailure},
		{wellKnown + "/a", wellKnown + "/a", "/a#b", ExitFailure},
		{"/a" + openID, "/a" + openID, "/b", ExitFailure},
	} {
		t.Run(fmt.Sprintf("%s names %q", tt.asked, tt.issuer), func(t *testing.T) {
			w.flags["metadata"] = w.url + tt.asked
			w.answer(map[string]answer{
				tt.place: w.metadata(testpki.M{"issuer": w.url + tt.issuer}),
				"/mtls":  {status: http.StatusOK, body: goodAnswer},
			})
			code, _, stderr := w.fetch(t)
			if code != tt.want {
				t.Errorf("got exit code %d and words %q, want %d", code, stderr, tt.want)
			}
			want := []string{tt.place}
			if tt.want == ExitOK {
				want = append(want, "/mtls")
			}
			if diff := cmp.Diff(want, w.paths()); diff != "" {
				t.Errorf("asked for:\n%s", diff)
			}
		})
	}
}

func TestTokenMetadata(t *testing.T) {
	w := newTokenServer(t)
	const never = "(never asked)"
	for _, tt := range []struct {
		name string
		give answer
		asks string // the token endpoint
	}{
		{"the alias is preferred, RFC 8705 section 5", w.metadata(nil), "/mtls"},
		{"no aliases", w.metadata(testpki.M{"mtls_endpoint_aliases": nil}), "/plain"},
		{"no alias of the token endpoint", w.metadata(testpki.M{"mtls_endpoint_aliases": testpki.M{}}), "/plain"},
		{"members unknown to us", w.metadata(testpki.M{"response_types_supported": []string{}}), "/mtls"},

		{"an alias that is not https", w.metadata(testpki.M{"mtls_endpoint_aliases": testpki.M{"token_endpoint": "http://127.0.0.1/plain"}}), never},
		{"an endpoint that is no URL", w.metadata(testpki.M{"mtls_endpoint_aliases": nil, "token_endpoint": "/plain"}), never},
		{"no endpoint", w.metadata(testpki.M{"mtls_endpoint_aliases": nil, "token_endpoint": nil}), never},
		{"no issuer", w.metadata(testpki.M{"issuer": nil}), never},
		{"issuer named in other letters", w.metadata(testpki.M{"issuer": nil, "Issuer": w.url}), never},
		{"two issuers", answer{status: 200, body: fmt.Sprintf(`{"issuer":"https://other.example","issuer":%q,"token_endpoint":%q}`, w.url, w.url+"/plain")}, never},
		{"no object", answer{status: 200, body: "[]"}, never},
		{"no JSON", answer{status: 200, body: "<html>"}, never},
		{"too large", answer{status: 200, body: w.metadata(nil).body + strings.Repeat(" ", tokenclient.MaxResponse)}, never},
		{"another status", answer{status: 201, body: w.metadata(nil).body}, never},
		{"a redirect", answer{status: 302, location: "/elsewhere"}, never},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.answer(map[string]answer{
				wellKnown:    tt.give,
				"/elsewhere": w.metadata(nil),
				"/mtls":      {status: http.StatusOK, body: goodAnswer},
				"/plain":     {status: http.StatusOK, body: goodAnswer},
			})
			code, _, stderr := w.fetch(t)
			wantCode, wantPaths := ExitOK, []string{wellKnown, tt.asks}
			if tt.asks == never {
				wantCode, wantPaths = ExitFailure, wantPaths[:1]
			}
			if code != wantCode {
				t.Errorf("got exit code %d and words %q, want %d", code, stderr, wantCode)
			}
			if diff := cmp.Diff(wantPaths, w.paths()); diff != "" {
				t.Errorf("asked for:\n%s", diff)
			}
		})
	}
}

func TestTokenAnswers(t *testing.T) {
	w := newTokenServer(t)
	for _, tt := range []struct {
		name  string
		give  answer
		code  int
		words string // the whole text on stderr; "" accepts any text
	}{
		{"refused, RFC 6749 section 5.2", answer{status: 401, body: `{"error":"invalid_client","error_description":"Not you."}`}, ExitRefused,
			"tallygate: invalid_client: Not you.\n"},
		{"refused without description", answer{status: 400, body: `{"error":"invalid_scope"}`}, ExitRefused, "tallygate: invalid_scope\n"},
		{"refused, description that steers a terminal", answer{status: 400, body: `{"error":"invalid_scope","error_description":"\u001b[2J"}`}, ExitRefused,
			"tallygate: invalid_scope\n"},
		{"refused, error that steers a terminal", answer{status: 400, body: `{"error":"\u001b[2J"}`}, ExitFailure, ""},
		{"refused with a token inside", answer{status: 400, body: goodAnswer}, ExitFailure, ""},
		{"refused by something else", answer{status: 403, body: "<html>"}, ExitFailure, ""},
		{"server in trouble", answer{status: 503, body: `{"error":"temporarily_unavailable"}`}, ExitFailure, ""},
		{"token of lower-case type", answer{status: 200, body: `{"access_token":"the.token","token_type":"bearer"}`}, ExitOK, ""},
		{"token of another type", answer{status: 200, body: `{"access_token":"the.token","token_type":"DPoP"}`}, ExitFailure, ""},
		{"token of no type", answer{status: 200, body: `{"access_token":"the.token"}`}, ExitFailure, ""},
		{"no token", answer{status: 200, body: `{"token_type":"Bearer"}`}, ExitFailure, ""},
		{"token with a line break", answer{status: 200, body: `{"access_token":"the.token\n","token_type":"Bearer"}`}, ExitFailure, ""},
		{"two tokens", answer{status: 200, body: `{"access_token":"a","access_token":"the.token","token_type":"Bearer"}`}, ExitFailure, ""},
		{"no JSON", answer{status: 200, body: "the.token"}, ExitFailure, ""},
		{"too large", answer{status: 200, body: goodAnswer + strings.Repeat(" ", tokenclient.MaxResponse)}, ExitFailure, ""},
		{"another status", answer{status: 201, body: goodAnswer}, ExitFailure, ""},
		{"a redirect", answer{status: 307, location: "/plain", body: `{"error":"invalid_client"}`}, ExitFailure, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.answer(map[string]answer{wellKnown: w.metadata(nil), "/mtls": tt.give, "/plain": {status: 200, body: goodAnswer}})
			code, _, stderr := w.fetch(t)
			if code != tt.code || tt.words != "" && stderr != tt.words || strings.Contains(stderr, "\x1b") {
				t.Errorf("got exit code %d and words %q, want %d and %q", code, stderr, tt.code, tt.words)
			}
			if diff := cmp.Diff([]string{wellKnown, "/mtls"}, w.paths()); diff != "" {
				t.Errorf("asked for:\n%s", diff)
			}
		})
	}
}

// Wrong or unusable flags are errors before a response is read.
func TestTokenFlags(t *testing.T) {
	w := newTokenServer(t)
	other, _ := testpki.NewCA("another ca").Write(w.dir, "other")
	_, otherKey := testpki.SelfSigned("another").Write(w.dir, "stranger")
	text := write(t, "text.pem", []byte("hello"))
	for _, tt := range []struct {
		flag, value string
		code        int
		words       string // a part of the text on stderr
	}{
		{"metadata", strings.Replace(w.url, "https", "http", 1), exitUsage, "--metadata"},
		{"metadata", "as.example.com", exitUsage, "--metadata"},
		{"metadata", "https://", exitUsage, "--metadata"},
		{"metadata", strings.Replace(w.url, "//", "//user:secret@", 1), exitUsage, "--metadata"},
		{"metadata", w.url + "#", exitUsage, "--metadata"},
		{"metadata", w.url + "?", exitUsage, "--metadata"},
		{"metadata", w.url + wellKnown + "?a=b", exitUsage, "--metadata"},
		{"timeout", "0s", exitUsage, "--timeout"},
		{"timeout", "soon", exitUsage, "--timeout"},
		{"metadata", "https://127.0.0.1:1", ExitFailure, "https://127.0.0.1:1/.well-known"},
		{"cert", filepath.Join(w.dir, "nosuch.pem"), ExitFailure, "nosuch.pem"},
		{"key", filepath.Join(w.dir, "nosuch.pem"), ExitFailure, "nosuch.pem"},
		{"key", otherKey, ExitFailure, "does not match"},
		{"ca", filepath.Join(w.dir, "nosuch.pem"), ExitFailure, "nosuch.pem"},
		{"ca", text, ExitFailure, "no certificate in PEM form"},
		{"ca", other, ExitFailure, "(--ca)"},
		{"ca", "", ExitFailure, "name it with --ca"},
	} {
		t.Run(tt.flag+" "+tt.value, func(t *testing.T) {
			code, _, stderr := w.fetch(t, "--"+tt.flag, tt.value)
			if code != tt.code || !strings.Contains(stderr, tt.words) || strings.Contains(stderr, "secret") {
				t.Errorf("got exit code %d and words %q, want %d and %q", code, stderr, tt.code, tt.words)
			}
		})
	}
	if paths := w.paths(); len(paths) > 0 {
		t.Errorf("asked for %q, want nothing", paths)
	}
}

func TestTokenRequiredFlags(t *testing.T) {
	w := newTokenServer(t)
	for _, name := range []string{"metadata", "cert", "key", "client-id"} {
		value := w.flags[name]
		delete(w.flags, name)
		if code, _, stderr := w.fetch(t); code != exitUsage || !strings.Contains(stderr, `"`+name+`"`) {
			t.Errorf("without --%s: got exit code %d and words %q, want %d", name, code, stderr, exitUsage)
		}
		w.flags[name] = value
	}
}

func TestTokenTLS(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*tls.Config)
		code int
	}{
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ExitOK},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, ExitFailure},
		{"our certificate is refused", func(c *tls.Config) { c.ClientAuth = tls.RequireAndVerifyClientCert }, ExitFailure},
		{"wrong name", func(c *tls.Config) {
			c.Certificates = []tls.Certificate{testpki.SelfSigned("as", testpki.DNS("as.example")).TLS()}
		}, ExitFailure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newTokenServer(t, tt.edit)
			if code, _, stderr := w.fetch(t); code != tt.code {
				t.Errorf("got exit code %d and words %q, want %d", code, stderr, tt.code)
			}
		})
	}
}

func TestTokenTimeout(t *testing.T) {
	w := newTokenServer(t)
	for _, tt := range []struct {
		silent  string
		answers map[string]answer
	}{
		{"metadata", map[string]answer{wellKnown: {}}},
		{"token endpoint", map[string]answer{wellKnown: w.metadata(nil), "/mtls": {}}},
	} {
		w.answer(tt.answers)
		if code, _, stderr := w.fetch(t, "--timeout", "200ms"); code != ExitFailure || !strings.Contains(stderr, "200ms (--timeout)") {
			t.Errorf("%s: got exit code %d and words %q, want 1 and the time", tt.silent, code, stderr)
		}
	}
}

// Go uses no proxy for loopback, and tests have no server that the system trusts, so requests could
// not prove either setting.
func TestTokenTrustsNobodyElse(t *testing.T) {
	w := newTokenServer(t)
	client, err := tokenclient.New(tokenclient.Options{Cert: w.flags["cert"], Key: w.flags["key"], CA: w.flags["ca"]})
	if err != nil {
		t.Fatal(err)
	}
	transport := client.HTTP.Transport.(*http.Transport)
	if transport.Proxy != nil {
		t.Error("the client takes a proxy from somewhere")
	}
	if !transport.TLSClientConfig.RootCAs.Equal(testpki.Pool(w.ca)) {
		t.Error("the client trusts more than the authorities of --ca")
	}
}
