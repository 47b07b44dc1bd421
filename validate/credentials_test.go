package validate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gatetest"
)

func request(target string, authorization ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header["Authorization"] = authorization
	return r
}

// bearerOnly is a Validator as it is by default, everyScheme accepts every scheme.
var (
	bearerOnly  = &Validator{}
	everyScheme = &Validator{offered: [len(schemes)]bool{DPoP: true, MTLSPoP: true}}
)

// The name of a scheme may have any case (RFC 9110 section 11.1). A scheme is accepted only if the
// host offers it, and only without a second scheme.
func TestSchemes(t *testing.T) {
	for _, c := range []struct {
		header string
		v      *Validator
		want   Scheme
		reason access.Reason
	}{
		{"DPoP abc", everyScheme, DPoP, access.Granted},
		{"dpop abc", everyScheme, DPoP, access.Granted},
		{"mtls_pop abc", everyScheme, MTLSPoP, access.Granted},
		{"MTLS_PoP abc", everyScheme, MTLSPoP, access.Granted},
		{"bearer abc", everyScheme, Bearer, access.Granted},
		{"DPoP abc", bearerOnly, Bearer, access.NoToken},
		{"mtls_pop abc", bearerOnly, Bearer, access.NoToken},
		{"mtls-pop abc", everyScheme, Bearer, access.NoToken},
		{"DPoPx abc", everyScheme, Bearer, access.NoToken},
		{"DPoP", everyScheme, DPoP, access.MalformedRequest},
		{"mtls_pop:abc", everyScheme, MTLSPoP, access.MalformedRequest},
		{"DPoP abc, Bearer abc", everyScheme, DPoP, access.MalformedRequest},
	} {
		got, err := c.v.Credentials(request("/", c.header))
		if r := gatetest.Reason(t, err); r != c.reason || got.Scheme != c.want {
			t.Errorf("Credentials of %q = %s, %s, want %s, %s", c.header, got.Scheme, r, c.want, c.reason)
		}
	}
	if _, err := everyScheme.Credentials(request("/", "DPoP abc", "Bearer abc")); gatetest.Reason(t, err) != access.MalformedRequest {
		t.Errorf("Credentials of two headers returned %v, want malformed_request", err)
	}
	if _, err := everyScheme.Credentials(request("/?access_token=abc", "DPoP abc")); gatetest.Reason(t, err) != access.MalformedRequest {
		t.Errorf("Credentials with a token in the query returned %v, want malformed_request", err)
	}
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
			got, err := bearerOnly.Credentials(c.r)
			if reason := gatetest.Reason(t, err); reason != c.reason || got.Token != c.token || got.Scheme != Bearer || got.Proof != nil {
				t.Errorf("got %.20q, %s (%v), want %.20q, %s", got.Token, reason, err, c.token, c.reason)
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
	if _, err := bearerOnly.Credentials(r); gatetest.Reason(t, err) != access.NoToken {
		t.Errorf("got %v, want no token", err)
	}
}

// Credentials does not allocate for a valid bearer token.
func TestCredentialsAllocations(t *testing.T) {
	r := request("/accounts/7", "Bearer abc.def.ghi")
	if n := testing.AllocsPerRun(100, func() { _, _ = everyScheme.Credentials(r) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// The token of Credentials is one b64token, the end of the only header, and net/url finds no token in
// the query.
func FuzzCredentials(f *testing.F) {
	seeds := []struct{ header, query string }{
		{"Bearer abc", ""}, {"bearer  abc==", "a=b"}, {"Bearer", "access_token=x"}, {"Basic abc", ""},
		{"DPoP abc", ""}, {"mtls_pop abc", ""}, {"DPoP", ""}, {"Bearer a b", "access%5ftoken=x"}, {"Bearer:abc", "a;b"}, {"Bearer\tabc", "%"}, {"Bearer abc", "a=b&access_token"},
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
		got, err := everyScheme.Credentials(r)
		token := got.Token
		if err != nil {
			if token != "" {
				t.Errorf("Credentials = %q with an error, want \"\"", token)
			}
			gatetest.Reason(t, err)
			return
		}
		if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n,;\"") || !strings.HasSuffix(header, " "+token) {
			t.Errorf("Credentials of header %q = %q, want the end of the header", header, token)
		}
		if scheme, _, _ := strings.Cut(header, " "); !strings.EqualFold(scheme, got.Scheme.String()) || (got.Proof != nil) != (got.Scheme == DPoP) {
			t.Errorf("Credentials of header %q = %+v, want the scheme of the header, and a proof with DPoP alone", header, got)
		}
		if r.URL.Query().Has("access_token") {
			t.Errorf("Credentials with a token in query %q succeeded, want an error", query)
		}
	})
}
