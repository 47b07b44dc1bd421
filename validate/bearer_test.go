package validate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
)

func request(target string, authorization ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header["Authorization"] = authorization
	return r
}

// T-BR-01 to T-BR-03, T-BR-05; RFC 6750 sections 2 and 2.1.
func TestBearer(t *testing.T) {
	long := strings.Repeat("a", maxToken)
	for _, c := range []struct {
		name   string
		r      *http.Request
		token  string
		reason access.Reason
	}{
		{"a token", request("/", "Bearer a.b-c_d~e+f/g=="), "a.b-c_d~e+f/g==", access.Granted},
		{"lower case", request("/", "bearer abc"), "abc", access.Granted},
		{"upper case", request("/", "BEARER abc"), "abc", access.Granted},
		{"mixed case", request("/", "bEARER abc"), "abc", access.Granted},
		{"two spaces", request("/", "Bearer  abc"), "abc", access.Granted},
		{"8 KB", request("/", "Bearer "+long[:8<<10]), long[:8<<10], access.Granted},
		{"just short enough", request("/", "Bearer "+long), long, access.Granted},
		{"too long", request("/", "Bearer "+long+"a"), "", access.MalformedToken},
		{"a million dots", request("/", "Bearer "+strings.Repeat(".", 1e6)), "", access.MalformedToken},

		{"no header", request("/"), "", access.NoToken},
		{"Basic", request("/", "Basic dXNlcjpwYXNz"), "", access.NoToken},
		{"a longer scheme", request("/", "Bearertoken abc"), "", access.NoToken},
		{"scheme and token in one", request("/", "Bearer-abc"), "", access.NoToken},
		{"DPoP", request("/", "DPoP abc"), "", access.NoToken},

		{"empty header", request("/", ""), "", access.MalformedRequest},
		{"two headers", request("/", "Bearer abc", "Bearer def"), "", access.MalformedRequest},
		{"two equal headers", request("/", "Bearer abc", "Bearer abc"), "", access.MalformedRequest},
		{"two schemes", request("/", "Basic abc", "Bearer abc"), "", access.MalformedRequest},
		{"scheme alone", request("/", "Bearer"), "", access.MalformedRequest},
		{"scheme and space", request("/", "Bearer "), "", access.MalformedRequest},
		{"colon", request("/", "Bearer:abc"), "", access.MalformedRequest},
		{"slash, a character of tokens", request("/", "Bearer/abc"), "", access.MalformedRequest},
		{"tab", request("/", "Bearer\tabc"), "", access.MalformedRequest},
		{"tab after space", request("/", "Bearer \tabc"), "", access.MalformedRequest},
		{"comma after scheme", request("/", "Bearer, abc"), "", access.MalformedRequest},
		{"two words", request("/", "Bearer abc def"), "", access.MalformedRequest},
		{"two credentials", request("/", "Bearer abc, Bearer def"), "", access.MalformedRequest},
		{"trailing space", request("/", "Bearer abc "), "", access.MalformedRequest},
		{"padding only", request("/", "Bearer ="), "", access.MalformedRequest},
		{"padding inside", request("/", "Bearer a=b"), "", access.MalformedRequest},
		{"quoted", request("/", `Bearer "abc"`), "", access.MalformedRequest},
		{"null byte", request("/", "Bearer a\x00b"), "", access.MalformedRequest},
		{"beyond ASCII", request("/", "Bearer aéb"), "", access.MalformedRequest},

		{"query alone", request("/?access_token=abc"), "", access.NoToken},
		{"query and header", request("/?access_token=abc", "Bearer abc"), "", access.MalformedRequest},
		{"query without value", request("/?access_token", "Bearer abc"), "", access.MalformedRequest},
		{"escaped name", request("/?access%5ftoken=abc", "Bearer abc"), "", access.MalformedRequest},
		{"wholly escaped name", request("/?%61%63%63%65%73%73%5F%74%6F%6B%65%6E=abc", "Bearer abc"), "", access.MalformedRequest},
		{"other case", request("/?Access_Token=abc", "Bearer abc"), "", access.MalformedRequest},
		{"second parameter", request("/?a=b&access_token=abc", "Bearer abc"), "", access.MalformedRequest},
		{"after a semicolon", request("/?a=b;access_token=abc", "Bearer abc"), "", access.MalformedRequest},
		{"before a semicolon", request("/?access_token=abc;a=b", "Bearer abc"), "", access.MalformedRequest},

		{"another parameter", request("/?a=access_token&b=c", "Bearer abc"), "abc", access.Granted},
		{"a longer name", request("/?access_tokens=abc", "Bearer abc"), "abc", access.Granted},
		{"a shorter name", request("/?access_toke=abc", "Bearer abc"), "abc", access.Granted},
		{"escaped twice", request("/?access%255ftoken=abc", "Bearer abc"), "abc", access.Granted},
		{"broken escape", request("/?access%5=abc&%&%zz=;", "Bearer abc"), "abc", access.Granted},
		{"empty query", request("/?", "Bearer abc"), "abc", access.Granted},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, err := Bearer(c.r)
			if got := reason(t, err); got != c.reason || token != c.token {
				t.Errorf("got %.20q, %s (%v), want %.20q, %s", token, got, err, c.token, c.reason)
			}
		})
	}
}

// T-BR-04: a token outside the Authorization header is ignored.
func TestBearerElsewhere(t *testing.T) {
	r := request("/")
	r.Header = http.Header{
		"Cookie":                 {"access_token=abc"},
		"X-Access-Token":         {"abc"},
		"Proxy-Authorization":    {"Bearer abc"},
		"Sec-Websocket-Protocol": {"bearer, abc"},
	}
	if _, err := Bearer(r); reason(t, err) != access.NoToken {
		t.Errorf("got %v, want no token", err)
	}
}

// Bearer does not allocate for a valid header.
func TestBearerAllocations(t *testing.T) {
	r := request("/accounts/7", "Bearer abc.def.ghi")
	if n := testing.AllocsPerRun(100, func() { _, _ = Bearer(r) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// The result of Bearer is one b64token, the end of the only header, and net/url finds no token in
// the query.
func FuzzBearer(f *testing.F) {
	seeds := []struct{ header, query string }{
		{"Bearer abc", ""}, {"bearer  abc==", "a=b"}, {"Bearer", "access_token=x"}, {"Basic abc", ""},
		{"Bearer a b", "access%5ftoken=x"}, {"Bearer:abc", "a;b"}, {"Bearer\tabc", "%"}, {"Bearer abc", "a=b&access_token"},
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s.header, s.query)
	}
	f.Fuzz(func(t *testing.T, header, query string) {
		r := request("/", header)
		r.URL.RawQuery = query
		token, err := Bearer(r)
		if err != nil {
			if token != "" {
				t.Errorf("Bearer = %q with an error, want \"\"", token)
			}
			reason(t, err)
			return
		}
		if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n,;\"") || !strings.HasSuffix(header, " "+token) {
			t.Errorf("Bearer of header %q = %q, want the end of the header", header, token)
		}
		if scheme, _, _ := strings.Cut(header, " "); !strings.EqualFold(scheme, "bearer") {
			t.Errorf("Bearer of header %q succeeded, want another scheme refused", header)
		}
		if r.URL.Query().Has("access_token") {
			t.Errorf("Bearer with a token in query %q succeeded, want an error", query)
		}
	})
}
