package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
)

// A malformedRequest is refused before net/http has seen the end of its header, or in its body,
// which net/http may be reading then.
type malformedRequest struct {
	name, text string
	inBody     bool
}

// malformedRequests are requests to host with these fields. Each contains /accounts/smuggled, which
// must not be taken for a request.
func malformedRequests(target, host, fields string) []malformedRequest {
	head := func(method, version, more string) string {
		return method + " " + target + " " + version + "\r\nHost: " + host + "\r\n" + fields + more + "\r\n"
	}
	smuggled := head("GET", "HTTP/1.1", "X-Note: smuggled\r\nConnection: close\r\n")
	get := func(more string) string { return head("GET", "HTTP/1.1", more) + smuggled }
	post := func(more, body string) string { return head("POST", "HTTP/1.1", more) + body + smuggled }
	chunked := func(body string) string { return post("Transfer-Encoding: chunked\r\n", body) }
	last := "0\r\n\r\n"
	all := []malformedRequest{
		{"both lengths", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", last), false},
		{"both, the coding first", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", last), false},
		{"both, no length", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", last), false},
		{"HTTP/1.0 with a coding", head("POST", "HTTP/1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n") + last + smuggled, false},
		{"HTTP/1.0 with both", head("POST", "HTTP/1.0", "Connection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n") + last + smuggled, false},
		{"two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", last), false},
		{"a list of codings", post("Transfer-Encoding: gzip, chunked\r\n", last), false},
		{"another coding", post("Transfer-Encoding: identity\r\nContent-Length: 0\r\n", ""), false},
		{"a coding behind a vertical tab", post("Transfer-Encoding:\vchunked\r\n", last), false},
		{"a coding before a space", post("Transfer-Encoding : chunked\r\n", last), false},
		{"a folded coding", post("Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n", last), false},
		{"two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), false},
		{"two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), false},
		{"a list of lengths", post("Content-Length: 5, 5\r\n", "hello"), false},
		{"a length with a sign", post("Content-Length: +5\r\n", "hello"), false},
		{"a negative length", post("Content-Length: -5\r\n", "hello"), false},
		{"a length in hexadecimal", post("Content-Length: 0x5\r\n", "hello"), false},
		{"an empty length", post("Content-Length:\r\n", "hello"), false},
		{"a length above 2^63-1", post("Content-Length: 9223372036854775808\r\n", "hello"), false},
		{"a folded length", post("Content-Length:\r\n 5\r\n", "hello"), false},
		{"a folded line", get("X-Note: a\r\n b\r\n"), false},
		{"a folded line at first", strings.Replace(get(""), "\r\nHost", "\r\n Host", 1), false},
		{"LF in the header", get("X-Note: a\nX-More: b\r\n"), false},
		{"LF alone", strings.ReplaceAll(get(""), "\r\n", "\n"), false},
		{"CR in the header", get("X-Note: a\rX-More: b\r\n"), false},
		{"NUL in a value", get("X-Note: a\x00b\r\n"), false},
		{"DEL in a value", get("X-Note: a\x7fb\r\n"), false},
		{"no name", get(": b\r\n"), false},
		{"a control in a name", get("X-\x01: b\r\n"), false},
		{"no colon", get("X-Note\r\n"), false},
		{"two hosts", get("Host: " + host + "\r\n"), false},
		{"no host", strings.Replace(get(""), "Host: "+host+"\r\n", "", 1), false},
		{"a host with a space", strings.Replace(get(""), "Host: ", "Host: a ", 1), false},
		{"a host with user information", strings.Replace(get(""), "Host: ", "Host: a@", 1), false},
		{"a tab in the request line", strings.Replace(get(""), "GET ", "GET\t", 1), false},
		{"two spaces", strings.Replace(get(""), "GET ", "GET  ", 1), false},
		{"no version", "GET " + target + "\r\n" + smuggled, false},
		{"HTTP/1.2", head("GET", "HTTP/1.2", "") + smuggled, false},
		{"HTTP/3.0", head("GET", "HTTP/3.0", "") + smuggled, false},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled, false},
		{"empty lines without end", strings.Repeat("\r\n", 20) + get(""), false},
		{"an empty line of LF", "\n" + get(""), false},
		{"a TLS record", "\x16\x03\x01\x00\x05hello" + smuggled, false},
	}
	for name, body := range map[string]string{
		"NUL in a chunk extension": "5;a=\x00\r\nhello\r\n" + last, "NUL in a quoted extension": "5;a=\"\x00\"\r\nhello\r\n" + last, "CR in a chunk extension": "5;a\rb\r\nhello\r\n" + last,
		"LF in a chunk extension": "5;a\nhello\r\n" + last, "an extension without a name": "5;\r\nhello\r\n" + last, "a space behind a size": "5 \r\nhello\r\n" + last,
		"a size with a sign": "+5\r\nhello\r\n" + last, "a negative size": "-5\r\nhello\r\n" + last, "a size of 17 digits": "00000000000000005\r\nhello\r\n" + last,
		"LF behind a size": "5\nhello\r\n" + last, "LF behind a chunk": "5\r\nhello\n" + last, "a chunk without an end": "5\r\nhelloworld\r\n" + last,
		"NUL in the trailer": "5\r\nhello\r\n0\r\nX-Sum: \x00\r\n\r\n", "LF in the trailer": "5\r\nhello\r\n0\r\nX-Sum: a\n\r\n", "LF behind the trailer": "5\r\nhello\r\n0\r\n\n",
		"a folded trailer": "5\r\nhello\r\n0\r\nX-Sum: a\r\n b\r\n\r\n", "a length in the trailer": "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", "a CR in the trailer": "5\r\nhello\r\n0\r\n\r\r\n",
	} {
		all = append(all, malformedRequest{name, chunked(body), true})
	}
	return all
}

// exchangeOf sends first and reads its response, then sends text, byte by byte or at once, and
// returns all data until the connection ends.
func exchangeOf(t *testing.T, conn net.Conn, first, text string, bytewise bool) string {
	t.Helper()
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	if first != "" {
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	pieces := []string{text}
	if bytewise {
		pieces = strings.Split(text, "")
	}
	go func() {
		for _, piece := range pieces {
			if _, err := io.WriteString(conn, piece); err != nil {
				return // refused before its end
			}
		}
	}()
	answers, _ := io.ReadAll(in) // a reset may follow the answer
	return string(answers)
}

// refusesAll sends malformed requests over connections from dial, as first and as later requests,
// and requires a single response with status 400 for each.
func refusesAll(t *testing.T, requests []malformedRequest, firsts []string, dial func() (net.Conn, error), further func(t *testing.T, r malformedRequest, answers string)) {
	t.Helper()
	for _, request := range requests {
		for i, first := range firsts {
			for _, bytewise := range []bool{false, true} {
				conn, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				answers := exchangeOf(t, conn, first, request.text, bytewise)
				unread := request.inBody && bytewise && strings.HasPrefix(answers, "HTTP/1.1 405 ") // answered before the fault came
				if strings.Count(answers, "HTTP/1.") != 1 || !unread && !strings.HasPrefix(answers, "HTTP/1.1 400 ") || !strings.Contains(answers, "\r\nConnection: close\r\n") {
					t.Errorf("%s, behind first %d, bytewise %t: answered\n%q\nwant a 400 alone", request.name, i, bytewise, answers)
				}
				further(t, request, answers)
			}
		}
	}
}

// T-SMG-01 to 08, 18, T-HDR-07, 08, T-SNI-07, T-PATH-19, T-ADD-12: nothing of a malformed request,
// and nothing after it, reaches the upstream, at any place on a connection and in any pieces.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	for _, fronted := range []bool{false, true} {
		t.Run(fmt.Sprintf("fronted=%t", fronted), func(t *testing.T) {
			t.Parallel()
			r, certificate, fields := newReloading(t), "northwind", ""
			if fronted {
				r, certificate = newFronted(t), "lb"
				r.configure(ownTLS, passing("[rfc9440]", byName))
				fields = r.clientCert("northwind") + "\r\n"
			} else {
				r.configure()
			}
			r.serve()
			fields += "Authorization: Bearer " + r.tokens["good"] + "\r\n"
			get := "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\n" + fields
			firsts := []string{"", get + "\r\n", get + "Accept-Language: \xff\r\n\r\n"} // by the lane, by net/http
			settings := r.client(certificate, "http/1.1")
			dial := func() (net.Conn, error) { return tls.Dial("tcp", r.addresses["partners"], settings) }
			refused := 0
			refusesAll(t, malformedRequests("/accounts/7", "api.example.test", fields), firsts, dial, func(t *testing.T, request malformedRequest, answers string) {
				// Behind a first request, there may be that. A request whose body is malformed may have
				// begun, and be noticed after the next: such requests come last.
				received, n := r.upstream.take()
				firsts, begun := bytes.Count(received, []byte("GET ")), bytes.Count(received, []byte("POST "))
				if bytes.Contains(received, []byte("smuggled")) || bytes.Contains(received, []byte("\r\n0\r\n\r\n")) || firsts > 1 || !request.inBody && (begun > 0 || n > 1) {
					t.Errorf("%s: the upstream gets %d requests\n%q", request.name, n, received)
				}
				switch {
				case strings.Contains(answers, `"reason":"malformed_request"`):
					refused++
				case request.inBody && strings.Contains(answers, `"reason":"client_malformed"`):
				default:
					t.Errorf("%s: the reason is not told: %q", request.name, answers)
				}
			})
			lines := 0
			for _, line := range r.lines("request") {
				if line["reason"] == "malformed_request" && line["status"] == 400.0 && line["detail"] != nil && line["remote"] != "" {
					lines++
				}
			}
			counted, err := r.metric(`tallygate_decisions_total{decision="deny",partner="unknown",reason="malformed_request"}`)
			if err != nil || lines != refused || counted != float64(refused) || refused == 0 {
				t.Errorf("%d are refused, %d logged and %v counted, %v", refused, lines, counted, err)
			}
			r.check(r.stop())
		})
	}
}

// The other listeners refuse the same requests.
func TestMalformedRequestsElsewhere(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure("authorization_servers:\n", "authorization_servers:\n  - {name: ours, issuer: \"https://"+r.issuerAddress+"\", audiences: [https://api.example.test]}\n",
		"admin:", "issuer: {issuer: \"https://"+r.issuerAddress+"\", address: "+r.issuerAddress+", state: state, audience: https://api.example.test, mtls_alias: {address: \"127.0.0.1:0\", url: \"https://mtls.example.test\"}}\nadmin:")
	r.serve()
	settings := r.client("northwind", "http/1.1")
	for listener, target := range map[string]string{gate.IssuerListener: "/token", gate.AliasListener: "/token", gate.AdminListener: "/metrics"} {
		address := r.addresses[listener]
		dial := func() (net.Conn, error) { return tls.Dial("tcp", address, settings) }
		if listener == gate.AdminListener {
			dial = func() (net.Conn, error) { return net.Dial("tcp", address) }
		}
		first := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
		refusesAll(t, malformedRequests(target, "localhost", ""), []string{"", first}, dial, func(*testing.T, malformedRequest, string) {})
		lines := 0
		for _, line := range r.lines("malformed request") {
			if line["listener"] == listener && line["reason"] == "malformed_request" && line["detail"] != nil {
				lines++
			}
		}
		if lines == 0 {
			t.Errorf("%s: no line in the log", listener)
		}
	}
	r.check(r.stop())
}

// RFC 9112 section 2.2: empty lines before a request line are skipped.
func TestEmptyLines(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	fields := "Host: api.example.test\r\nAuthorization: Bearer " + r.tokens["good"] + "\r\n"
	get := "GET /accounts/7 HTTP/1.1\r\n" + fields + "\r\n"
	last := "GET /accounts/7 HTTP/1.1\r\n" + fields + "Connection: close\r\n\r\n"
	chunked := "POST /accounts/7 HTTP/1.1\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	counted := "POST /accounts/7 HTTP/1.1\r\n" + fields + "Content-Length: 5\r\n\r\nhello"
	for _, bytewise := range []bool{false, true} {
		text := ""
		for _, request := range []string{get, chunked, get, counted, get, counted, chunked, last} {
			text += "\r\n\r\n" + request
		}
		conn, err := tls.Dial("tcp", r.addresses["partners"], r.client("northwind", "http/1.1"))
		r.check(err)
		r.upstream.forget()
		answers := exchangeOf(t, conn, "", text, bytewise)
		if _, n := r.upstream.take(); strings.Count(answers, "HTTP/1.1 200 ") != 8 || n != 8 {
			t.Errorf("bytewise %t: %d requests upstream, answered\n%s", bytewise, n, answers)
		}
	}
	r.check(r.stop())
}
