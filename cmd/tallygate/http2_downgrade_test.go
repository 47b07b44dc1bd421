package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// A downgrade is a request over HTTP/2 for an upstream of HTTP/1.1.
type downgrade struct {
	name    string
	method  string   // POST if empty
	more    []string // fields, alternating names and values
	body    string
	trailer []string
	bodied  bool // the upstream may see a request whose body does not end
}

// refusedDowngrades are malformed requests.
var refusedDowngrades = func() (all []downgrade) {
	for _, length := range []string{"+5", "-5", "0x5", "5, 5", "5,6", "", "5 5", "five", "5.0", "9223372036854775808", "99999999999999999999", "5\x00", "5\r\n", "5\r\nx-note: smuggled", "\v5", "5;"} {
		all = append(all, downgrade{name: fmt.Sprintf("content-length %q", length), more: []string{"content-length", length}, body: "hello"})
	}
	for name, more := range map[string][]string{
		"two equal lengths": {"content-length", "5", "content-length", "5"}, "two lengths": {"content-length", "5", "content-length", "50"},
		"transfer-encoding": {"transfer-encoding", "chunked"}, "both": {"content-length", "5", "transfer-encoding", "chunked"}, "transfer-encoding identity": {"transfer-encoding", "identity"},
		"connection": {"connection", "close"}, "connection content-length": {"content-length", "5", "connection", "content-length"}, "keep-alive": {"keep-alive", "timeout=5"},
		"proxy-connection": {"proxy-connection", "keep-alive"}, "upgrade": {"upgrade", "websocket"}, "te": {"te", "chunked"}, "an upper-case length": {"Content-Length", "5"}, "an upper-case coding": {"Transfer-Encoding", "chunked"},
		"CR LF in a value": {"x-note", "a\r\ntransfer-encoding: chunked"}, "LF in a value": {"x-note", "a\ncontent-length: 50"}, "CR in a value": {"x-note", "a\rb"}, "NUL in a value": {"x-note", "a\x00b"}, "a request in a value": {"x-note", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: api.example.test"},
		"DEL in a value": {"x-note", "a\x7fb"}, "CR LF in a name": {"x-note: a\r\ntransfer-encoding", "chunked"}, "LF in a name": {"x\nnote", "a"}, "NUL in a name": {"x\x00note", "a"}, "a space in a name": {"x note", "a"}, "a colon in a name": {"x:note", "a"},
		"a length behind a colon": {"content-length: 5\r\nx", "a"}, "an empty name": {"", "a"}, "CR LF in a cookie": {"cookie", "a=b\r\nx-note: c"},
	} {
		all = append(all, downgrade{name: name, more: more, body: "hello"})
	}
	for name, method := range map[string]string{"CR LF in the method": "POST /smuggled HTTP/1.1\r\nx: ", "a space in the method": "POST /smuggled", "NUL in the method": "PO\x00ST", "no method": "-"} {
		all = append(all, downgrade{name: name, method: method, body: "hello"})
	}
	return append(all,
		downgrade{name: "a longer body", more: []string{"content-length", "4"}, body: "hello", bodied: true},
		downgrade{name: "a shorter body", more: []string{"content-length", "6"}, body: "hello", bodied: true},
		downgrade{name: "a body in place of none", more: []string{"content-length", "0"}, body: "hello", bodied: true},
		downgrade{name: "no body in place of one", more: []string{"content-length", "5"}, bodied: true},
		downgrade{name: "GET with a length and no body", method: "GET", more: []string{"content-length", "5"}},
		downgrade{name: "a much longer body", more: []string{"content-length", "5"}, body: "hello" + strings.Repeat("GET /smuggled HTTP/1.1\r\n\r\n", 500), bodied: true},
		downgrade{name: "CR LF in a trailer", body: "hello", trailer: []string{"x-sum", "a\r\nb: c"}, bodied: true},
		downgrade{name: "a pseudo field in a trailer", body: "hello", trailer: []string{":path", "/smuggled"}, bodied: true},
		downgrade{name: "an upper-case name in a trailer", body: "hello", trailer: []string{"X-Sum", "a"}, bodied: true},
	)
}()

// grantedDowngrades are valid requests.
var grantedDowngrades = []downgrade{
	{name: "a length", more: []string{"content-length", "5"}, body: "hello"},
	{name: "no length", body: "hello"},
	{name: "length 0", more: []string{"content-length", "0"}},
	{name: "no body"},
	{name: "GET", method: "GET"},
	{name: "a long body without a length", body: strings.Repeat("0123456789", 1500)},
	{name: "a body that is a request", body: "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: api.example.test\r\n\r\n"},
	{name: "a trailer", body: "hello", trailer: []string{"x-sum", "a"}},
	{name: "a length and a trailer", more: []string{"content-length", "5"}, body: "hello", trailer: []string{"x-sum", "a"}},
	{name: "a trailer and no body", trailer: []string{"x-sum", "a"}},
	{name: "length 0 and a trailer", more: []string{"content-length", "0"}, trailer: []string{"x-sum", "a"}},
	{name: "te: trailers", more: []string{"te", "trailers"}, body: "hello"},
	{name: "bytes above 127", more: []string{"x-note", "\xff"}, body: "hello"},
	{name: "an expectation", more: []string{"expect", "100-continue", "content-length", "5"}, body: "hello"},
}

// downgraded sends the request with a target over a connection of its own and returns the outcome.
func (r *reloading) downgraded(t *testing.T, d downgrade, target string) string {
	t.Helper()
	method := d.method
	if method == "" {
		method = http.MethodPost
	}
	fields := r.good(method)
	for i, field := range fields {
		if field == "/accounts/7" {
			fields[i] = target
		}
	}
	if method == "-" {
		fields = fields[2:]
	}
	c := r.rawClient(t)
	ends := d.body == "" && d.trailer == nil
	if err := c.send(1, ends && !d.bodied, append(fields, d.more...)...); err != nil {
		t.Fatal(err)
	}
	if !ends || d.bodied {
		_ = c.frames.WriteData(1, d.trailer == nil, []byte(d.body)) // the gate may have ended the connection
	}
	if d.trailer != nil {
		_ = c.send(1, true, d.trailer...)
	}
	for {
		if outcome := c.outcome(1); outcome != "100" {
			return outcome
		}
	}
}

// T-H2-05, 07, 08, T-ADD-13: a request over HTTP/2 whose header or length cannot be expressed in HTTP/1.1,
// or would have another meaning there, is refused; every other one is the same message at the upstream.
func TestHTTP2Downgrade(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	upstream := newMessageReader(t)
	r.configure(r.upstream.url(), upstream.URL)
	r.serve()
	for n, d := range refusedDowngrades {
		target := fmt.Sprintf("/accounts/c%05d", n)
		switch got := r.downgraded(t, d, target); got {
		case "403": // by the method
			if d.method == "" {
				t.Errorf("%s: became 403, want a fault of the message", d.name)
			}
		case "400", "PROTOCOL_ERROR", "closed", "goaway PROTOCOL_ERROR", "goaway COMPRESSION_ERROR":
		default:
			t.Errorf("%s: became %q, want a refusal", d.name, got)
		}
		upstream.mu.Lock()
		if read, begun := upstream.read[target], upstream.incomplete[target]; len(read) > 0 || begun > 0 && !d.bodied {
			t.Errorf("%s: the upstream reads %v and begins %d requests, want none", d.name, read, begun)
		}
		upstream.mu.Unlock()
	}
	for n, d := range grantedDowngrades {
		target := fmt.Sprintf("/accounts/c9%04d", n)
		if got := r.downgraded(t, d, target); got != "200" {
			t.Errorf("%s: became %q, want 200", d.name, got)
		}
		method := d.method
		if method == "" {
			method = http.MethodPost
		}
		upstream.got(t, delivery{Request: smuggling.Request{Name: d.name, Status: http.StatusOK, Messages: []smuggling.Message{{Method: method, Target: target, Body: d.body}}}, target: target}, false)
	}
	upstream.mu.Lock()
	for target := range upstream.read {
		if !strings.HasPrefix(target, "/accounts/c9") {
			t.Errorf("the upstream reads a request for %s", target)
		}
	}
	upstream.mu.Unlock()
	r.check(r.stop())
}
