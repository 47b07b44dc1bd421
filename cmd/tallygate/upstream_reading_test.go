package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// A reading is a request as a server reports that it has read it.
type reading struct {
	count  int
	method string
	target string
	fields map[string][]string // by folded name: the members of all values, in their order
	names  []string            // the names in their order, as the server spells them
	body   string              // length and digest
}

// foldedName is the same for all names that a server can take for one name: CGI has one spelling for
// "-" and "_".
func foldedName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// members returns the members of a field value: some servers join the values of repeated fields.
func members(value string) (all []string) {
	for member := range strings.SplitSeq(value, ",") {
		all = append(all, strings.Trim(member, " \t"))
	}
	return all
}

// digest returns the length and the digest of a body.
func digest(body string) string {
	sum := sha256.Sum256([]byte(body))
	return fmt.Sprintf("%d %x", len(body), sum)
}

// parseReading reads the text of a server.
func parseReading(text string) (r reading, err error) {
	r.fields = map[string][]string{}
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if _, err := fmt.Sscanf(lines[0], "%d %s %s", &r.count, &r.method, &r.target); err != nil {
		return r, fmt.Errorf("reading %q: %w", text, err)
	}
	for _, line := range lines[1:] {
		name, digits, _ := strings.Cut(line, " ")
		value, err := hex.DecodeString(digits)
		if err != nil {
			return r, fmt.Errorf("reading %q: %w", line, err)
		}
		r.names = append(r.names, name)
		name = foldedName(name)
		r.fields[name] = append(r.fields[name], members(string(value))...)
	}
	r.body = strings.TrimSpace(body)
	return r, nil
}

// An upstreamCase is a granted request. fields are its header fields as they are sent, without Host and
// Authorization.
type upstreamCase struct {
	name, method, query, fields string
	sent                        string // the body with its coding
	body                        string
}

var upstreamCases = func() []upstreamCase {
	counted := func(method string, n int) upstreamCase {
		body := strings.Repeat("0123456789", n/10+1)[:n]
		return upstreamCase{fmt.Sprintf("%s with %d bytes", method, n), method, "", fmt.Sprintf("Content-Length: %d\r\n", n), body, body}
	}
	const request = "GET /smuggled HTTP/1.1\r\nHost: api.example.test\r\nTallygate-Partner: mallory\r\n\r\n"
	const chunks = "5;a=b;c=\"d;0\"\r\nhello\r\n0001\r\n!\r\n0;e\r\nX-Sum: mallory\r\nTallygate-Partner: mallory\r\n\r\n"
	return []upstreamCase{
		{"GET", "GET", "", "", "", ""},
		{"GET with a query", "GET", "?a=b&c=%20d;e&&f=/../g?h", "", "", ""},
		{"GET with length 0", "GET", "", "Content-Length: 0\r\n", "", ""},
		{"HEAD", "HEAD", "?a", "", "", ""},
		{"OPTIONS", "OPTIONS", "", "", "", ""},
		counted("POST", 0), counted("POST", 1), counted("POST", 5000), counted("POST", 70_000), counted("PUT", 1000), counted("PATCH", 1000), counted("DELETE", 100),
		{"POST without a length", "POST", "", "", "", ""},
		{"chunks, extensions, a trailer", "POST", "", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", chunks, "hello!"},
		{"no chunk but the last", "POST", "", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", ""},
		{"a long chunked body", "PUT", "", "transfer-encoding: CHUNKED\r\n", "11170\r\n" + strings.Repeat("0123456789", 7000) + "\r\n0\r\n\r\n", strings.Repeat("0123456789", 7000)},
		{"Expect", "POST", "", "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello", "hello"},
		{"Expect with chunks", "POST", "", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"},
		{"a body that is a request", "POST", "", fmt.Sprintf("Content-Length: %d\r\n", len(request)), request, request},
		{"a chunk that is a request", "POST", "", "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(request), request), request},
		{"odd cases", "GET", "", "x-lower: a\r\nX-UPPER: b\r\nx-oDd: c\r\naccept: d\r\nUSER-AGENT: e\r\n", "", ""},
		{"odd names", "GET", "", "X.Dot: a\r\nX!#$%&'*+^`|~: b\r\n9: c\r\n", "", ""},
		{"repeated fields", "GET", "", "X-Note: a\r\nX-More: b\r\nx-note: c\r\nX-Note: d, e\r\n", "", ""},
		{"empty values", "GET", "", "X-Empty:\r\nX-Spaces: \t \r\nX-Note: a\r\n", "", ""},
		{"white space", "GET", "", "X-Note: \t a\tb c \t \r\n", "", ""},
		{"bytes above 127", "GET", "", "X-Note: \xff\x80\xc3\xbc\r\n", "", ""},
		{"a long value", "GET", "", "X-Note: " + strings.Repeat("x", 4000) + "\r\n", "", ""},
		{"many fields", "GET", "", strings.Repeat("X-Note: a\r\n", 30), "", ""},
		{"framing under other names", "POST", "", "Content_Length: 3\r\nTransfer_Encoding: chunked\r\nX-Transfer-Encoding: chunked\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n", "hello", "hello"},
		{"Connection names framing", "POST", "", "Connection: Content-Length, X-Hop\r\nX-Hop: mallory\r\nContent-Length: 5\r\n", "hello", "hello"},
		{"Connection names ours", "GET", "", "Connection: Tallygate-Partner, X-Forwarded-For, Host\r\n", "", ""},
		{"forged identity", "GET", "", "Tallygate-Partner: mallory\r\ntallygate_partner: mallory\r\nTALLYGATE-CLIENT-ID: mallory\r\nTallygate.Partner: mallory\r\nX-Forwarded-For: mallory\r\nForwarded: for=mallory\r\nClient-Cert: mallory\r\n", "", ""},
		{"TE", "GET", "", "TE: trailers\r\nConnection: TE\r\n", "", ""},
	}
}()

// notForwarded are fields that are not compared: fields of the connection, fields of the framing,
// and fields that the gate removes or sets itself.
var notForwarded = []string{
	"authorization", "client-cert", "connection", "content-length", "expect", "forwarded", "host", "te", "trailer", "transfer-encoding",
	"tallygate-partner", "tallygate-client-id", "tallygate.partner", "x-forwarded-for", "x-hop", "x-request-id",
}

// wanted returns the fields that the server must read.
func (c upstreamCase) wanted() map[string][]string {
	want := map[string][]string{}
	for line := range strings.SplitSeq(strings.TrimSuffix(c.fields, "\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if name = foldedName(name); name != "" && !slices.Contains(notForwarded, name) {
			want[name] = append(want[name], members(value)...)
		}
	}
	return want
}

// An upstreamTest sends requests to one server through the gate.
type upstreamTest struct {
	*reloading
	realUpstream

	granted int // requests that the server must have seen
	conn    net.Conn
	in      *bufio.Reader
}

func (u *upstreamTest) target() string { return "/" + u.name + "/7" }

// send writes bytes on the connection to the gate, and opens one first if it has to.
func (u *upstreamTest) send(text string) error {
	if u.conn == nil {
		conn, err := u.dialFrom("127.0.0.1", "northwind", "http/1.1")
		if err != nil {
			return err
		}
		u.conn, u.in = conn, bufio.NewReader(conn)
	}
	_, err := io.WriteString(u.conn, text)
	return err
}

func (u *upstreamTest) hangUp() {
	if u.conn != nil {
		_ = u.conn.Close()
		u.conn = nil
	}
}

// receive reads the answer to a request: its status, its field X-Read and its body.
func (u *upstreamTest) receive(method string) (status int, read, body string, err error) {
	for {
		answer, err := http.ReadResponse(u.in, &http.Request{Method: method})
		if err != nil {
			u.hangUp()
			return 0, "", "", err
		}
		if answer.StatusCode == http.StatusContinue {
			_ = answer.Body.Close()
			continue
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.Close {
			u.hangUp()
		}
		return answer.StatusCode, answer.Header.Get("X-Read"), string(text), err
	}
}

// text returns the bytes of the request.
func (u *upstreamTest) text(c upstreamCase) string {
	return c.method + " " + u.target() + c.query + " HTTP/1.1\r\nHost: api.example.test\r\n" + u.authorization() + c.fields + "\r\n" + c.sent
}

func (u *upstreamTest) authorization() string {
	return "Authorization: Bearer " + u.tokens["good"] + "\r\n"
}

// check reads the answer to c, and compares the request that the server has read and the order of its fields.
func (u *upstreamTest) check(t *testing.T, c upstreamCase) {
	t.Helper()
	status, read, text, err := u.receive(c.method)
	if got, compared := u.compare(t, c, status, read, text, err); compared {
		u.order(t, c, got)
	}
}

// compare compares the request that the server has read with c. It returns false if the answer does not have
// the request.
func (u *upstreamTest) compare(t *testing.T, c upstreamCase, status int, read, text string, err error) (got reading, compared bool) {
	t.Helper()
	u.granted++
	if err != nil || status != http.StatusOK {
		t.Errorf("%s: got %d %q, %v, want 200", c.name, status, text, err)
		return got, false
	}
	if want := fmt.Sprintf("%d %s", u.granted, c.method); read != want {
		t.Errorf("%s: the server's count and method are %q, want %q", c.name, read, want)
		_, _ = fmt.Sscan(read, &u.granted)
	}
	if c.method == http.MethodHead {
		return got, false
	}
	got, err = parseReading(text)
	if err != nil {
		t.Errorf("%s: %v", c.name, err)
		return got, false
	}
	if target := u.target() + c.query; got.method != c.method || got.target != target || got.body != digest(c.body) {
		t.Errorf("%s: the server reads %s %s with the body %s, want %s %s with %s", c.name, got.method, got.target, got.body, c.method, target, digest(c.body))
	}
	for name, want := range c.wanted() {
		values, read := got.fields[name]
		if !read && u.name == "lighttpd" && strings.Join(want, "") == "" {
			continue // lighttpd drops fields without a value
		}
		if !slices.Equal(values, want) {
			t.Errorf("%s: the server reads %s: %q, want %q", c.name, name, values, want)
		}
	}
	u.identity(t, c, got)
	return got, true
}

// order checks that the fields come in the order and the spelling of the client, at the servers that show
// these.
func (u *upstreamTest) order(t *testing.T, c upstreamCase, got reading) {
	t.Helper()
	if u.name != "node" && u.name != "netty" {
		return
	}
	var want []string
	wanted := c.wanted()
	for line := range strings.SplitSeq(c.fields, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		if _, forwarded := wanted[foldedName(name)]; forwarded {
			want = append(want, name)
		}
	}
	names := slices.DeleteFunc(slices.Clone(got.names), func(name string) bool {
		_, sent := wanted[foldedName(name)]
		return !sent
	})
	if !slices.Equal(names, want) {
		t.Errorf("%s: the server reads the fields %q, want %q", c.name, names, want)
	}
}

// overHTTP2 sends the cases over HTTP/2. A chunked body has no length there.
func (u *upstreamTest) overHTTP2(t *testing.T) {
	transport := &http.Transport{TLSClientConfig: u.client("northwind"), ForceAttemptHTTP2: true, DisableCompression: true}
	defer transport.CloseIdleConnections()
	for _, c := range upstreamCases {
		request, err := http.NewRequestWithContext(t.Context(), c.method, "https://"+u.addresses["partners"]+u.target()+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "api.example.test"
		request.Header = http.Header{"Authorization": {"Bearer " + u.tokens["good"]}}
		for line := range strings.SplitSeq(strings.TrimSuffix(c.fields, "\r\n"), "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			if folded := strings.ToLower(name); name != "" && !slices.Contains(framingFields, folded) {
				request.Header.Add(name, strings.Trim(value, " \t"))
			}
		}
		if c.sent != "" {
			request.Body, request.ContentLength = io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))
		}
		if c.body != c.sent {
			request.ContentLength, request.Trailer = -1, http.Header{"X-Sum": {"mallory"}}
		}
		answer, err := transport.RoundTrip(request)
		if err != nil {
			t.Errorf("%s, over HTTP/2: %v", c.name, err)
			continue
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		u.compare(t, c, answer.StatusCode, answer.Header.Get("X-Read"), string(text), err)
	}
}

// framingFields are fields that HTTP/2 does not have or that net/http sets, and a field that Connection names.
var framingFields = []string{"connection", "content-length", "te", "trailer", "transfer-encoding", "expect", "x-hop"}

// identity checks the fields that must be ours.
func (u *upstreamTest) identity(t *testing.T, c upstreamCase, got reading) {
	t.Helper()
	ours := map[string]string{
		"tallygate-partner": "northwind", "tallygate-client-id": "northwind-ledger", "tallygate-thumbprint": u.pairs["northwind"].Thumbprint(), "host": "api.example.test",
	}
	for name, want := range ours {
		if values := got.fields[name]; !slices.Equal(values, []string{want}) {
			t.Errorf("%s: the server reads %s: %q, want %q alone", c.name, name, values, want)
		}
	}
	if values, sent := got.fields["authorization"]; sent {
		t.Errorf("%s: the server reads an Authorization of %d values, want none", c.name, len(values))
	}
	if length, sent := got.fields["content-length"]; sent && !slices.Equal(length, []string{fmt.Sprint(len(c.body))}) && len(c.body)+len(length[0]) > 0 {
		t.Errorf("%s: the server reads Content-Length: %q, want %d", c.name, length, len(c.body))
	}
	if text := fmt.Sprint(got.fields); strings.Contains(text, "mallory") {
		t.Errorf("%s: the server reads what the client forged: %s", c.name, text)
	}
}

// refusedRequests are requests of which no server may see anything.
func (u *upstreamTest) refusedRequests() (all []string) {
	host, fields := "api.example.test", u.authorization()
	for n, request := range smuggling.Requests(u.target(), host, fields) {
		if request.Fault == smuggling.InHead && len(request.Messages) == 0 && n%20 == 0 {
			all = append(all, request.Bytes+smuggling.Next(u.target(), host, fields))
		}
	}
	get := func(method, target, fields string) string {
		return method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + fields + "\r\n"
	}
	return append(all,
		get("GET", u.target(), ""), get("GET", u.target(), "Authorization: Bearer x\r\n"), get("GET", u.target()+"/8", fields), get("TRACE", u.target(), fields),
		get("GET", u.target()+"/../8", fields), get("GET", u.target()+"%2f8", fields), get("GET", u.target(), fields+"Upgrade: h2c\r\n"), get("CONNECT", u.target(), fields),
	)
}

// refuse sends the requests, each over a connection of its own.
func (u *upstreamTest) refuse(t *testing.T) {
	t.Helper()
	u.hangUp()
	for _, text := range u.refusedRequests() {
		if err := u.send(text); err != nil {
			t.Error(err)
		}
		status, _, _, err := u.receive(http.MethodGet)
		if err != nil || status < 400 || status > 403 {
			t.Errorf("%.200q: got %d, %v, want a refusal", text, status, err)
		}
		u.hangUp()
	}
}

// all sends all cases over one connection as far as possible and then over HTTP/2, twice, and the refused
// requests between.
func (u *upstreamTest) all(t *testing.T) {
	defer u.hangUp()
	for range 2 {
		for _, c := range upstreamCases {
			if err := u.send(u.text(c)); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			u.check(t, c)
		}
		two := []upstreamCase{upstreamCases[0], {"behind it", "POST", "?b", "Content-Length: 5\r\n", "hello", "hello"}}
		if err := u.send(u.text(two[0]) + u.text(two[1])); err != nil {
			t.Fatal(err)
		}
		u.check(t, two[0])
		u.check(t, two[1])
		u.refuse(t)
		u.overHTTP2(t)
	}
	if err := u.send(u.text(upstreamCases[0])); err != nil {
		t.Fatal(err)
	}
	u.check(t, upstreamCases[0])
	if u.accessLog != "" {
		gatetest.EventuallyEqual(t, "lines in the server's log", u.granted, func() int {
			lines, err := os.ReadFile(u.accessLog)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Count(lines, []byte("\n"))
		})
	}
}

// T-HDR-01 to 06, T-SMG: many servers read a granted request alike: the message that the client sent, with
// the gate's identity fields. They see nothing of a refused one. Programs that CI does not install run with
// TALLYGATE_UPSTREAMS=1, after make upstreams.
func TestRealUpstreams(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	var servers []realUpstream
	var apis, names strings.Builder
	for _, program := range serverPrograms {
		chosen := os.Getenv("TALLYGATE_UPSTREAMS") == "1"
		if program.optional && !chosen {
			continue
		}
		if err := program.missing(t); err != nil {
			if chosen || os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Logf("without %v: %v", program.servers, err)
			continue
		}
		servers = append(servers, program.start(t)...)
	}
	for _, s := range servers {
		_, _ = fmt.Fprintf(&names, ", %s", s.name)
		_, _ = fmt.Fprintf(&apis, "  - name: %[1]s\n    hosts: [api.example.test]\n    upstream: {url: \"http://%[2]s\"}\n"+
			"    routes: [{methods: [GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE], path: \"/%[1]s/{id}\", body: allowed}]\n", s.name, s.address)
	}
	r.configure("body_bytes: 64KiB", "body_bytes: 1MiB", "  - name: payments\n", apis.String()+"  - name: payments\n", "apis: [accounts]}", "apis: [accounts"+names.String()+"]}")
	r.serve()
	t.Cleanup(func() { r.check(r.stop()) }) // after the parallel tests of the servers
	for _, s := range servers {
		gatetest.Eventually(t, s.name+" listens", func() bool {
			conn, err := net.Dial("tcp", s.address)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			(&upstreamTest{reloading: r, realUpstream: s}).all(t)
		})
	}
}
