package policy

import (
	"bufio"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
)

// read parses an HTTP/1.1 request as net/http's server does.
func read(line, host string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(line + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")))
}

// reasonOf returns the reason of a refusal, or Granted for nil.
func reasonOf(err error) access.Reason {
	if err == nil {
		return access.Granted
	}
	var d *access.Denial
	if errors.As(err, &d) {
		return d.Reason
	}
	return access.Undecided
}

func TestTargetPath(t *testing.T) {
	try := func(path string, want access.Reason) {
		t.Helper()
		r, err := read("GET "+path, "api.test")
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		got, err := new(Table).ParseTarget(r)
		if reasonOf(err) != want {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		var wanted Target
		if want == access.Granted {
			wanted.Host = "api.test"
			wanted.Path, _, _ = strings.Cut(path, "?") // byte for byte
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s: ParseTarget (-want +got):\n%s", path, diff)
		}
	}
	allow := func(path string) { t.Helper(); try(path, access.Granted) }
	deny := func(path string) { t.Helper(); try(path, access.PathNotCanonical) }
	malformed := func(path string) { t.Helper(); try(path, access.MalformedRequest) }

	allow("/")
	allow("/accounts")
	allow("/accounts/")
	allow("/accounts/42/events")
	allow("/Az09-._~!$&'()*+,=:@/x")
	allow("/a%20b")
	allow("/gr%C3%BC%c3%9fe/%3F%23%2A%2B")
	allow("/100%25")
	allow("/...")
	allow("/a/..b/.c/d..")
	allow("/admin.")

	// T-PATH-01, dot segments.
	deny("/public/../admin")
	deny("/public/%2e%2e/admin")
	deny("/public/.%2e/admin")
	deny("/public/%2E./admin")
	deny("/public/..")
	deny("/..")
	deny("/.")
	deny("/../")
	// T-PATH-02, encoded slashes.
	deny("/public%2f..%2fadmin")
	deny("/public/..%2fadmin")
	deny("/accounts/a%2Fb")
	// T-PATH-03, empty segments.
	deny("//admin")
	deny("/public//admin")
	deny("/public/./x")
	deny("/./admin")
	deny("/admin//")
	deny("//")
	deny("//evil.test/admin")
	// T-PATH-04, backslashes.
	deny(`/public\..\admin`)
	deny("/public/..%5cadmin")
	deny("/public%5C")
	// T-PATH-05, matrix parameters.
	deny("/admin;x=1")
	deny("/v1;a=b/admin")
	deny("/v1%3ba=b")
	deny("/;")
	// T-PATH-06, controls and spaces.
	deny("/a%00")
	deny("/a%0d%0ab")
	deny("/a%09")
	deny("/a%7f")
	deny("/a%C2%85")
	deny("/admin%20")
	deny("/admin%20/x")
	deny("/%20admin")
	// T-PATH-07, double encoding.
	deny("/%252e%252e%252fadmin")
	deny("/a%25%32%66b")
	// Overlong and invalid UTF-8; encodings of bytes that need none.
	deny("/%c0%ae%c0%ae/admin")
	deny("/%ff")
	deny("/%41dmin")
	deny("/%7Euser")
	// Bytes that must be encoded.
	deny("/ü")
	deny("/[a]")
	deny("/{a}")
	deny("/a|b")
	deny("/a^b")
	deny("/a`b")
	deny(`/a"b`)
	deny("/<a>")
	deny("/a#b")

	// T-PATH-12 and T-PATH-20: the query is not part of the path and is forwarded unchanged.
	allow("/admin?x=/public/../")
	allow("/admin?")
	allow("/admin??a=%00&a[]=1&b=%2f%2e%2e;c={}|^\\\"<>`")
	allow("/?a=1;role=admin")
	malformed("/admin?a=%")
	malformed("/admin?a=%4")
	malformed("/admin?%zz")
	malformed("/admin?a=ü")
	malformed("/admin?a#b")
	malformed("/..?%") // the first fault counts
}

// ParseTarget also refuses targets that net/http refuses before.
func TestTargetStrayBytes(t *testing.T) {
	for target, want := range map[string]access.Reason{
		"/a\x00b":   access.PathNotCanonical,
		"/a\rb":     access.PathNotCanonical,
		"/a\nb":     access.PathNotCanonical,
		"/a b":      access.PathNotCanonical,
		"/a\x7f":    access.PathNotCanonical,
		"/a%zz":     access.PathNotCanonical,
		"/a%":       access.PathNotCanonical,
		"/a%4":      access.PathNotCanonical,
		"/?a\x00b":  access.MalformedRequest,
		"/?a\r\nb":  access.MalformedRequest,
		"/?a b":     access.MalformedRequest,
		"/?a\x7f":   access.MalformedRequest,
		"/?a\tb":    access.MalformedRequest,
		"":          access.MalformedRequest,
		"admin":     access.MalformedRequest, // T-PATH-17, as gRPC paths without a slash
		"?a":        access.MalformedRequest,
		"api.test":  access.MalformedRequest,
		"https:/a":  access.MalformedRequest,
		"https:a/b": access.MalformedRequest,
	} {
		path, query, _ := strings.Cut(target, "?")
		r := &http.Request{Method: "GET", RequestURI: target, Host: "api.test", URL: &url.URL{Path: path, RawPath: path, RawQuery: query}}
		if _, err := new(Table).ParseTarget(r); reasonOf(err) != want {
			t.Errorf("%q: %v, want %v", target, err, want)
		}
	}
}

// T-PATH-09 and T-PATH-10, the forms of RFC 9112 section 3.2.
func TestTargetForm(t *testing.T) {
	api := func(path string) Target { return Target{Host: "api.test", Path: path} }
	for line, want := range map[string]struct {
		reason access.Reason
		target Target
	}{
		"GET https://api.test/accounts":      {access.Granted, api("/accounts")},
		"GET HTTPS://API.test:8443/a?b":      {access.Granted, api("/a")},
		"GET https://evil.test/admin":        {access.Granted, Target{Host: "evil.test", Path: "/admin"}}, // not good.test, because the target's authority takes precedence
		"GET https://api.test/a/../b":        {access.PathNotCanonical, Target{}},
		"GET https://api.test//b":            {access.PathNotCanonical, Target{}},
		"GET https://api.test":               {access.PathNotCanonical, Target{}}, // no path, and none is made up
		"GET https://api.test?a=b":           {access.PathNotCanonical, Target{}},
		"GET http://api.test/accounts":       {access.MalformedRequest, Target{}},
		"GET ftp://api.test/accounts":        {access.MalformedRequest, Target{}},
		"GET https:///accounts":              {access.MalformedRequest, Target{}},
		"GET https://u@api.test/accounts":    {access.MalformedRequest, Target{}},
		"GET https://u:p@api.test/accounts":  {access.MalformedRequest, Target{}},
		"GET https://api%2etest/accounts":    {access.MalformedRequest, Target{}},
		"GET https://api.test%00/accounts":   {access.MalformedRequest, Target{}},
		"GET https:api.test/accounts":        {access.MalformedRequest, Target{}},
		"GET https://api.test:1:2/accounts":  {access.MalformedRequest, Target{}}, // T-PATH-15
		"GET https://[::1/accounts":          {access.MalformedRequest, Target{}},
		"GET *":                              {access.MalformedRequest, Target{}},
		"OPTIONS *":                          {access.MalformedRequest, Target{}},
		"PRI *":                              {access.MalformedRequest, Target{}},
		"CONNECT api.test:443":               {access.MalformedRequest, Target{}},
		"CONNECT /accounts":                  {access.MalformedRequest, Target{}},
		"GET api.test:443":                   {access.MalformedRequest, Target{}},
		"GET accounts":                       {access.MalformedRequest, Target{}},
		"OPTIONS /accounts":                  {access.Granted, api("/accounts")},
		"gET /accounts":                      {access.Granted, api("/accounts")}, // T-PATH-19: no route offers it
		"GET http://api.test/accounts?https": {access.MalformedRequest, Target{}},
	} {
		host := "api.test"
		if strings.Contains(line, "evil") {
			host = "good.test"
		}
		r, err := read(line, host)
		if err != nil { // net/http answers 400 itself
			if want.reason != access.MalformedRequest {
				t.Errorf("%s: %v", line, err)
			}
			continue
		}
		got, err := new(Table).ParseTarget(r)
		if reasonOf(err) != want.reason || got != want.target {
			t.Errorf("%s: %+v, %v; want %+v, %v", line, got, err, want.target, want.reason)
		}
	}
}

// T-SNI-07 and T-SNI-08. An empty want stands for a refusal.
func TestTargetHost(t *testing.T) {
	long := strings.Repeat("a.", 126) // 252 bytes
	for host, want := range map[string]string{
		"api.test":              "api.test",
		"API.Test":              "api.test",
		"api.test:443":          "api.test",
		"api.test:8443":         "api.test",
		"my_api-1.test":         "my_api-1.test",
		"localhost":             "localhost",
		"127.0.0.1:8443":        "127.0.0.1",
		"[::1]":                 "::1",
		"[::1]:8443":            "::1",
		"[2001:DB8:0::1]:443":   "2001:db8::1",
		long + "a":              long + "a",
		"":                      "",
		"api.test.":             "",
		"api.test.:443":         "",
		".api.test":             "",
		"api..test":             "",
		"a b":                   "",
		"a@b":                   "",
		"a,b":                   "",
		"a/b":                   "",
		"a?b":                   "",
		"a%2eb":                 "",
		"*.test":                "",
		"bücher.test":           "",
		"\u212aelvin.test":      "",
		"a\x00b":                "",
		"api.test:":             "",
		"api.test:x":            "",
		"api.test:-1":           "",
		"api.test:+1":           "",
		"api.test:65536":        "",
		"api.test:443:443":      "",
		":443":                  "",
		"::1":                   "",
		"[::1":                  "",
		"[::1]x":                "",
		"[::1]x:443":            "",
		"[::1]:":                "",
		"[]":                    "",
		"[127.0.0.1]":           "",
		"[api.test]":            "",
		"[fe80::1%eth0]":        "",
		"[[::1]]":               "",
		"::1]":                  "",
		long + "aa":             "",
		"api.test, evil.test":   "",
		"api.test\r\nX-Evil: 1": "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		got, err := new(Table).ParseTarget(r)
		if reason := reasonOf(err); (want == "") != (reason == access.MalformedRequest) || got.Host != want {
			t.Errorf("%q: %q, %v; want %q", host, got.Host, err, want)
		}
	}
}

// The Host header of an HTTP/2 request must not name another host than :authority (RFC 9113 section
// 8.3.1).
func TestTargetTwoHosts(t *testing.T) {
	for want, headers := range map[bool][][]string{
		true:  {nil, {"api.test"}},
		false: {{"evil.test"}, {"api.test", "evil.test"}, {"api.test", "api.test"}, {""}},
	} {
		for _, hosts := range headers {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = "api.test"
			if hosts != nil {
				r.Header["Host"] = hosts
			}
			if _, err := new(Table).ParseTarget(r); (reasonOf(err) == access.MalformedRequest) == want {
				t.Errorf("Host %q beside api.test: %v", hosts, err)
			}
		}
	}
}

// ParseTarget refuses a request whose URL was changed after net/http parsed it.
func TestTargetChangedURL(t *testing.T) {
	for name, change := range map[string]func(*url.URL){
		"path":     func(u *url.URL) { u.Path = "/b" },
		"raw path": func(u *url.URL) { u.Path, u.RawPath = "/a/b", "/a%2fb" },
		"query":    func(u *url.URL) { u.RawQuery = "a=2" },
	} {
		r := httptest.NewRequest("GET", "/a?a=1", nil)
		if _, err := new(Table).ParseTarget(r); err != nil {
			t.Fatal(err)
		}
		change(r.URL)
		if _, err := new(Table).ParseTarget(r); reasonOf(err) != access.PathNotCanonical {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The same paths over real connections, with HTTP/1.1 and HTTP/2.
func TestTargetOverHTTP(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			target, err := new(Table).ParseTarget(r)
			if r.Proto != proto {
				err = errors.New(r.Proto)
			}
			w.Header().Set("Reason", reasonOf(err).String())
			w.Header().Set("Path", target.Path)
		}))
		server.EnableHTTP2 = proto == "HTTP/2.0"
		server.StartTLS()
		defer server.Close()
		for path, want := range map[string]access.Reason{
			"/accounts/42":          access.Granted,
			"/accounts/a%20b?c=%2f": access.Granted,
			"/public/../admin":      access.PathNotCanonical,
			"/public/%2e%2e/admin":  access.PathNotCanonical,
			"//admin":               access.PathNotCanonical,
			"/a;b":                  access.PathNotCanonical,
			"/a%2fb":                access.PathNotCanonical,
			"/a?%zz":                access.MalformedRequest,
		} {
			request, err := http.NewRequest("GET", server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			// net/http sends Opaque unchanged, except for a leading //, which names a host.
			request.URL.Opaque = strings.TrimPrefix(server.URL, "https:") + path
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			wantPath := ""
			if want == access.Granted {
				wantPath, _, _ = strings.Cut(path, "?")
			}
			if got := response.Header; got.Get("Reason") != want.String() || got.Get("Path") != wantPath {
				t.Errorf("%s %s: %s %q, want %v", proto, path, got.Get("Reason"), got.Get("Path"), want)
			}
		}
	}
}

// T-PATH-14: parsing ends at the first fault, and takes linear time for a long path.
func TestTargetLongPath(t *testing.T) {
	for name, path := range map[string]string{
		"dot segments": "/" + strings.Repeat("../", 100_000),
		"late fault":   "/" + strings.Repeat("a/", 100_000) + "..",
		"late escape":  "/" + strings.Repeat("%C3%BC/", 100_000) + "%2f",
	} {
		r, err := read("GET "+path, "api.test")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := new(Table).ParseTarget(r); reasonOf(err) != access.PathNotCanonical {
			t.Errorf("%s: %v", name, err)
		}
		// Quadratic time would be minutes, linear time is milliseconds.
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s: ParseTarget took %v", name, took)
		}
	}
}

func TestTargetAllocations(t *testing.T) {
	for path, want := range map[string]float64{
		"/accounts/42/events?page=2&sort=a+b": 0,
		"/accounts/a%20b?c=%2f":               4, // the segment, the path twice in net/url, the query
	} {
		r, err := read("GET "+path, "api.test:8443")
		if err != nil {
			t.Fatal(err)
		}
		if got := testing.AllocsPerRun(100, func() { _, _ = new(Table).ParseTarget(r) }); got > want {
			t.Errorf("%s: %v allocations, want %v", path, got, want)
		}
	}
}

func BenchmarkParseTarget(b *testing.B) {
	r, err := read("GET /accounts/42/events?page=2", "api.test:8443")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := new(Table).ParseTarget(r); err != nil {
			b.Fatal(err)
		}
	}
}

// An accepted path has one meaning: net/url reads the same segments, and no segment changes its meaning
// when it is decoded again.
func FuzzTarget(f *testing.F) {
	seeds := []string{"/", "/a/b/", "/%C3%BC?x", "/a%20b", "/100%25", "/%252e", "/..", "/a//b", "/a;b", "/%2f", "https://api.test/a", "*", `/\`}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		r, err := read("GET "+target, "api.test")
		if err != nil {
			return
		}
		got, err := new(Table).ParseTarget(r)
		if err != nil {
			if reasonOf(err) != access.MalformedRequest && reasonOf(err) != access.PathNotCanonical {
				t.Fatalf("%q: %v", target, err)
			}
			return
		}
		if r.URL.EscapedPath() != got.Path || !strings.Contains(target, got.Path) {
			t.Fatalf("%q: path %q, net/url %q", target, got.Path, r.URL.EscapedPath())
		}
		var decoded []string
		for read, err := range segments(got.Path, 0) {
			if err != nil {
				t.Fatalf("%q: accepted, then %v", target, err)
			}
			segment := read.Text
			again, err := url.PathUnescape(segment)
			for _, s := range []string{segment, again} {
				if s == "." || s == ".." || strings.ContainsAny(s, "/\\;\x00\r\n") || err == nil && s != segment {
					t.Fatalf("%q: segment %q, decoded again %q", target, segment, again)
				}
			}
			decoded = append(decoded, segment)
		}
		if joined := "/" + strings.Join(decoded, "/"); joined != r.URL.Path {
			t.Fatalf("%q: segments %q, net/url %q", target, decoded, r.URL.Path)
		}
	})
}
