package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

const (
	ownTLS = "self_signed: false" // in client_certificates
	// byName believes the load balancer, whose certificate is "lb".
	byName = "{certificates: {san_dns: [lb.internal], trust: [front-ca.pem]}}"
)

// passing is ownTLS for certificates from front proxies.
func passing(formats, proxies string) string {
	return "from: header, header: {formats: " + formats + ", trusted_proxies: " + proxies + "}"
}

// newFronted is newReloading with the certificates of a load balancer. Its authority has certified
// another machine too.
func newFronted(t *testing.T) *reloading {
	t.Helper()
	r := newReloading(t)
	front := testpki.NewCA("Operator Root")
	r.pairs["front-ca"] = front
	r.pairs["lb"] = front.Leaf("lb", testpki.DNS("lb.internal"))
	r.pairs["machine"] = front.Leaf("machine", testpki.DNS("machine.internal"))
	for _, name := range []string{"front-ca", "lb", "machine"} {
		r.pairs[name].Write(r.dir, name)
	}
	return r
}

// clientCert is a certificate in a header, RFC 9440.
func (r *reloading) clientCert(name string) string {
	return "Client-Cert: :" + base64.StdEncoding.EncodeToString(r.pairs[name].Cert.Raw) + ":"
}

func (r *reloading) pem(name string) string {
	return strings.ReplaceAll(url.QueryEscape(string(r.pairs[name].CertPEM())), "+", "%20")
}

// T-CC-01 to 13 at the real binary: the result of a request by its sender and its headers.
func TestFrontProxy(t *testing.T) {
	t.Parallel()
	r := newFronted(t)
	r.configure(ownTLS, passing("[rfc9440, xfcc, pem], pem_header: X-SSL-Client-Cert", byName))
	r.serve()
	ledger, sync, stranger, expired := r.clientCert("northwind"), r.clientCert("borealis"), r.clientCert("stranger"), r.clientCert("expired")
	xfcc := func(name string) string { return `X-Forwarded-Client-Cert: Cert="` + r.pem(name) + `"` }
	element := func(name string) string { return `Cert="` + r.pem(name) + `"` }
	const malformed, none = "malformed_request", "no_certificate"
	for _, tt := range []struct {
		name, cert string
		headers    []string
		reason     string // "" when granted
	}{
		{"trusted", "lb", []string{ledger}, ""},
		{"trusted, XFCC", "lb", []string{xfcc("northwind")}, ""},
		{"trusted, PEM", "lb", []string{"X-SSL-Client-Cert: " + r.pem("northwind")}, ""},
		{"all agree", "lb", []string{ledger, xfcc("northwind"), "X-SSL-Client-Cert: " + r.pem("northwind")}, ""},
		{"another partner's", "lb", []string{sync}, "bound_to_other"},
		{"a renewed one", "lb", []string{r.clientCert("renewed")}, "bound_to_previous"},
		{"none", "lb", nil, none},
		{"of another machine under that authority", "machine", []string{ledger}, none},
		{"of a partner, with a header", "borealis", []string{ledger}, none},
		{"of the partner itself", "northwind", []string{ledger}, none},
		{"of the partner itself, without header", "northwind", nil, none},
		{"of nobody", "", []string{ledger}, none},
		{"by name of the address, T-CC-04", "", []string{ledger, "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1"}, none},
		{"expired, T-CC-09", "lb", []string{expired}, "expired_certificate"},
		{"untrusted, T-CC-09", "lb", []string{stranger}, "untrusted_certificate"},
		{"twice, T-CC-05", "lb", []string{ledger, ledger}, malformed},
		{"in two spellings, T-CC-05", "lb", []string{ledger, "client-cert" + strings.TrimPrefix(ledger, "Client-Cert")}, malformed},
		{"a list, T-CC-05", "lb", []string{ledger + ", " + strings.TrimPrefix(sync, "Client-Cert: ")}, malformed},
		{"without colons, T-CC-06", "lb", []string{strings.ReplaceAll(ledger, ":", "")[:11] + ": AAAA"}, malformed},
		{"empty, T-CC-06", "lb", []string{"Client-Cert: ::"}, malformed},
		{"cut short, T-CC-06", "lb", []string{ledger[:len(ledger)-9] + ":"}, malformed},
		{"the client's XFCC first, T-CC-07", "lb", []string{"X-Forwarded-Client-Cert: " + element("northwind") + "," + element("stranger")}, "untrusted_certificate"},
		{"the last XFCC counts, T-CC-07", "lb", []string{"X-Forwarded-Client-Cert: " + element("stranger") + "," + element("northwind")}, ""},
		{"a hash alone, T-CC-08", "lb", []string{"X-Forwarded-Client-Cert: Hash=ab"}, malformed},
		{"other keys, T-CC-08", "lb", []string{"X-Forwarded-Client-Cert: cert=" + r.pem("northwind")}, malformed},
		{"two that disagree", "lb", []string{ledger, xfcc("borealis")}, malformed},
		{"two that disagree, of strangers", "lb", []string{stranger, "X-SSL-Client-Cert: " + r.pem("northwind")}, malformed},
		{"spellings that are not read", "lb", []string{"Client_Cert" + strings.TrimPrefix(ledger, "Client-Cert"), "X-Client-Cert: " + r.pem("northwind"), "SSL_CLIENT_CERT: " + r.pem("northwind")}, none},
	} {
		for _, h2 := range []bool{false, true} {
			args := []string{"-cert", tt.cert, "-token", "good", fmt.Sprintf("-h2=%t", h2)}
			for _, h := range tt.headers {
				args = append(args, "-H", h)
			}
			// Headers that resemble the configured header and must not reach the upstream, T-CC-02, T-CC-12.
			args = append(args, "-H", "x_ssl_client_cert: mallory", "-H", "X-Forwarded-Tls-Client-Cert: mallory", "-H", "client.cert.chain: mallory", "GET", "/accounts/7")
			r.check(r.call(args))
			var wrong error
			switch tt.reason {
			case "":
				wrong = r.granted(200)
				received, _ := r.upstream.take()
				if text := string(received); strings.Contains(text, "mallory") || strings.Count(strings.ToLower(text), "client-cert:") != 1 ||
					!strings.Contains(text, "Tallygate-Thumbprint: "+r.pairs["northwind"].Thumbprint()) || !strings.Contains(text, ledger) {
					t.Errorf("%s: the upstream got\n%s", tt.name, text)
				}
				if answer := string(r.dump()); strings.Contains(answer, "leaked") || r.answer.Close {
					t.Errorf("%s: answered\n%s", tt.name, answer)
				}
			case malformed:
				wrong = r.refused(400, tt.reason, "invalid_request")
			default:
				wrong = r.refused(401, tt.reason, "invalid_token")
			}
			if wrong != nil {
				t.Errorf("%s, HTTP/2 %t: %v", tt.name, h2, wrong)
			}
		}
	}
	if strings.Contains(string(r.log.Bytes()), r.pairs["lb"].Thumbprint()) {
		t.Error("the log names the front proxy's certificate as a client's")
	}
	r.check(r.stop())
}

// T-CC-11: a reload changes which proxies are trusted, also on open connections. A refused request
// does not close the connection for other requests on it.
func TestFrontProxyReload(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", h2), func(t *testing.T) {
			r := newFronted(t)
			r.configure(ownTLS, passing("[rfc9440]", "{addresses: [127.0.0.1]}"))
			r.serve()
			settings := r.client("")
			settings.ServerName, settings.InsecureSkipVerify = "gate.internal", true // a proxy's own name for the gate
			transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: h2, MaxConnsPerHost: 1}
			t.Cleanup(transport.CloseIdleConnections)
			expect := func(certificate string, status int, reason string) {
				t.Helper()
				request := accountRequest(t.Context(), r.addresses["partners"], r.tokens["good"])
				name, value, _ := strings.Cut(r.clientCert(certificate), ": ")
				request.Header.Set(name, value)
				r.upstream.forget()
				answer, err := transport.RoundTrip(request)
				r.check(err)
				body, err := io.ReadAll(answer.Body)
				r.check(err)
				_ = answer.Body.Close()
				if _, n := r.upstream.peek(); answer.StatusCode != status || !strings.Contains(string(body), reason) || answer.Close || n != map[bool]int{true: 1}[status == 200] {
					t.Errorf("answered %s, closing %t, with %d requests upstream: %s; want %d %s", answer.Status, answer.Close, n, body, status, reason)
				}
			}
			expect("northwind", 200, "")
			expect("stranger", 401, "untrusted_certificate")
			expect("northwind", 200, "")
			r.configure(ownTLS, passing("[rfc9440]", "{addresses: [127.0.0.2]}"))
			r.await("ok", 1)
			expect("northwind", 401, "no_certificate")
			r.configure(ownTLS, passing("[rfc9440]", "{addresses: [127.0.0.0/8]}"))
			r.await("ok", 2)
			expect("northwind", 200, "")
			r.configure(ownTLS, passing("[xfcc]", "{addresses: [127.0.0.0/8]}"))
			r.await("ok", 3)
			expect("northwind", 401, "no_certificate")
			opened, err := r.metric(`tallygate_tls_handshakes_total{reason="no_certificate",result="completed",version="TLS 1.3"}`)
			if err != nil || opened != 1 {
				t.Errorf("%v connections, %v; want 1", opened, err)
			}
			r.check(r.stop())
		})
	}
}

// If a client sends both Content-Length and Transfer-Encoding, a front proxy that uses the length
// could let a second request pass, with a certificate of the client's choice. The gate refuses such
// a request, and serves nothing after a chunked request.
func TestFrontProxyThatFramesOtherwise(t *testing.T) {
	t.Parallel()
	r := newFronted(t)
	r.configure(ownTLS, passing("[rfc9440]", byName))
	r.serve()
	smuggled := "0\r\n\r\nGET /accounts/8 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer " + r.tokens["good"] + "\r\n" + r.clientCert("northwind") + "\r\nConnection: close\r\n\r\n"
	for name, framing := range map[string]string{
		"both":            fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked", len(smuggled)),
		"one behind LF":   fmt.Sprintf("Content-Length: %d\r\nX-Note: a\nTransfer-Encoding: chunked", len(smuggled)),
		"one folded":      fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding:\r\n chunked", len(smuggled)),
		"chunked":         "Transfer-Encoding: chunked",
		"the length last": fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d", len(smuggled)),
	} {
		want, requests := "HTTP/1.1 400 ", 0
		if name == "chunked" {
			want, requests = "HTTP/1.1 200 ", 1
		}
		r.upstream.forget()
		conn, err := tls.Dial("tcp", r.addresses["partners"], r.client("lb", "http/1.1"))
		r.check(err)
		r.check(conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "POST /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+r.tokens["sync"]+"\r\n"+r.clientCert("borealis")+"\r\n"+framing+"\r\n\r\n"+smuggled)
		r.check(err)
		answers, err := io.ReadAll(conn)
		r.check(err)
		_ = conn.Close()
		if text := string(answers); strings.Count(text, "HTTP/1.1 ") != 1 || !strings.HasPrefix(text, want) || !strings.Contains(text, "\r\nConnection: close\r\n") {
			t.Errorf("%s: answered\n%s", name, text)
		}
		if received, n := r.upstream.take(); n != requests || strings.Contains(string(received), "/accounts/8") {
			t.Errorf("%s: %d requests upstream\n%s", name, n, received)
		}
	}
	// Connections stay open after messages with only one framing.
	for _, h2 := range []string{"true", "false"} {
		r.check(r.call([]string{"-cert", "lb", "-token", "good", "-h2=" + h2, "-H", r.clientCert("northwind"), "-body", "10", "POST", "/accounts/7"}))
		if err := r.granted(200); err != nil || r.answer.Close {
			t.Errorf("with a length, HTTP/2 %s: closing %t, %v", h2, r.answer.Close, err)
		}
	}
	r.check(r.call([]string{"-cert", "lb", "-token", "good", "-h2", "-H", r.clientCert("northwind"), "-body", "10", "-chunked", "POST", "/accounts/7"}))
	if err := r.granted(200); err != nil || r.answer.Close {
		t.Errorf("over HTTP/2, of no length: closing %t, %v", r.answer.Close, err)
	}
	r.check(r.stop())
}

// Some front proxies pass all further bytes of a client on, unread, once the client has asked for another protocol
// or a tunnel, even if the gate refuses. Such bytes could be requests with a certificate of the client's choice,
// so the gate serves nothing after such a request.
func TestFrontProxyThatTunnels(t *testing.T) {
	t.Parallel()
	r := newFronted(t)
	r.configure(ownTLS, passing("[rfc9440]", byName))
	r.serve()
	smuggled := "GET /accounts/8 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer " + r.tokens["good"] + "\r\n" + r.clientCert("northwind") + "\r\nConnection: close\r\n\r\n"
	for name, begin := range map[string]string{
		"WebSocket":    "GET /accounts/7 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade",
		"h2c":          "GET /accounts/7 HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, HTTP2-Settings",
		"Upgrade only": "GET /accounts/7 HTTP/1.1\r\nUpgrade: websocket",
		"CONNECT":      "CONNECT api.example.test:443 HTTP/1.1",
	} {
		r.upstream.forget()
		conn, err := tls.Dial("tcp", r.addresses["partners"], r.client("lb", "http/1.1"))
		r.check(err)
		r.check(conn.SetDeadline(time.Now().Add(patience)))
		host := "api.example.test"
		if name == "CONNECT" {
			host += ":443"
		}
		_, err = io.WriteString(conn, begin+"\r\nHost: "+host+"\r\nAuthorization: Bearer "+r.tokens["sync"]+"\r\n"+r.clientCert("borealis")+"\r\n\r\n"+smuggled)
		r.check(err)
		answers, err := io.ReadAll(conn)
		r.check(err)
		_ = conn.Close()
		if text := string(answers); strings.Count(text, "HTTP/1.1 ") != 1 || !strings.HasPrefix(text, "HTTP/1.1 40") || !strings.Contains(text, "\r\nConnection: close\r\n") {
			t.Errorf("%s: answered\n%s", name, text)
		}
		if received, n := r.upstream.take(); n != 0 {
			t.Errorf("%s: %d requests upstream, want 0\n%s", name, n, received)
		}
	}
	r.check(r.stop())
}

// PROXY protocol sets the address for log and upstream, and grants no right: neither to a sender
// with an invalid header nor to an address that names a trusted front proxy.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	r := newFronted(t)
	r.configure("listener:\n", "listener:\n  proxy_protocol: {trusted: [127.0.0.2]}\n", ownTLS, passing("[rfc9440]", "{addresses: [127.0.0.1, 127.0.0.2]}"))
	r.serve()
	named := func(address string) string {
		return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + string(net.ParseIP(address).To4()) + "\x7f\x00\x00\x01\x30\x39\x01\xbb"
	}
	certificate := r.clientCert("northwind")
	for _, tt := range []struct {
		name, from, before string
		status             int    // 0: no TLS
		remote             string // in the log
	}{
		{"the load balancer", "127.0.0.2", named("203.0.113.9"), 200, "203.0.113.9:12345"},
		{"without a header", "127.0.0.2", "", 0, ""},
		{"with version 1", "127.0.0.2", "PROXY TCP4 203.0.113.9 127.0.0.1 12345 443\r\n", 0, ""},
		{"with two", "127.0.0.2", named("203.0.113.9") + named("127.0.0.1"), 0, ""},
		{"a front proxy that speaks none", "127.0.0.1", "", 200, "127.0.0.1"},
		{"one that does", "127.0.0.1", named("203.0.113.9"), 0, ""},
		{"a stranger", "127.0.0.3", "", 401, "127.0.0.3"},
		{"a stranger with a header", "127.0.0.3", named("127.0.0.1"), 0, ""},
	} {
		status, id := r.exchange(t, tt.from, tt.before, certificate)
		if status != tt.status {
			t.Errorf("%s: answered %d, want %d", tt.name, status, tt.status)
		}
		received, n := r.upstream.take()
		if n != map[bool]int{true: 1}[tt.status == 200] {
			t.Errorf("%s: %d requests upstream", tt.name, n)
		}
		if tt.status == 0 {
			continue
		}
		r.logged(t, id, tt.remote)
		if host, _, _ := strings.Cut(tt.remote, ":"); n == 1 && !strings.Contains(string(received), "\r\nX-Forwarded-For: "+host+"\r\n") {
			t.Errorf("%s: the upstream got\n%s", tt.name, received)
		}
	}
	// Whom a load balancer names is not thereby a front proxy.
	r.configure("listener:\n", "listener:\n  proxy_protocol: {trusted: [127.0.0.2]}\n", ownTLS, passing("[rfc9440]", "{addresses: [127.0.0.1]}"))
	r.await("ok", 1)
	if status, _ := r.exchange(t, "127.0.0.2", named("127.0.0.1"), certificate); status != 401 {
		t.Errorf("with a trusted address in PROXY protocol: answered %d", status)
	}
	// The trusted proxies are read for each connection.
	r.configure(ownTLS, passing("[rfc9440]", "{addresses: [127.0.0.0/8]}"))
	r.await("ok", 2)
	if status, _ := r.exchange(t, "127.0.0.2", named("203.0.113.9"), certificate); status != 0 {
		t.Errorf("with a header that nobody may send: answered %d", status)
	}
	if status, _ := r.exchange(t, "127.0.0.2", "", certificate); status != 200 {
		t.Errorf("without: answered %d", status)
	}
	r.check(r.stop())
}

// exchange sends a request from an address, with bytes before TLS and a header line, and returns
// the status and request id; 0 if TLS fails.
func (r *reloading) exchange(t *testing.T, from, before, line string) (status int, id string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: r.client(""), DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			_, err = io.WriteString(c, before)
		}
		return c, err
	}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request := accountRequest(ctx, r.addresses["partners"], r.tokens["good"])
	name, value, _ := strings.Cut(line, ": ")
	request.Header.Set(name, value)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			t.Errorf("nothing came: %v", err)
		}
		return 0, ""
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	r.check(err)
	return answer.StatusCode, answer.Header.Get("X-Request-Id")
}

// logged waits for the request's line in the log, which names that address, with or
// without a port.
func (r *reloading) logged(t *testing.T, id, remote string) {
	t.Helper()
	var got string
	gatetest.Eventually(t, "a log line of request "+id, func() bool {
		for _, line := range r.lines("request") {
			if line["request_id"] == id {
				got = line["remote"].(string)
			}
		}
		return got != ""
	})
	if got != remote && !strings.HasPrefix(got, remote+":") {
		t.Errorf("remote = %s in the log, want %s", got, remote)
	}
}
