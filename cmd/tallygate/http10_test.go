package main

import (
	"crypto/tls"
	"strings"
	"testing"
)

// T-ADD-12: a front proxy's connection ends after a response to HTTP/1.0, because the proxy may see
// its end elsewhere.
func TestFrontProxyOverHTTP10(t *testing.T) {
	t.Parallel()
	r := newFronted(t)
	r.configure(ownTLS, passing("[rfc9440]", byName))
	r.serve()
	get := "GET /accounts/7 HTTP/1.0\r\nHost: api.example.test\r\nConnection: keep-alive\r\n" + r.clientCert("northwind") + "\r\nAuthorization: Bearer " + r.tokens["good"] + "\r\n\r\n"
	conn, err := tls.Dial("tcp", r.addresses["partners"], r.client("lb", "http/1.1"))
	r.check(err)
	answers := exchangeOf(t, conn, "", get+get, false, "")
	if _, n := r.upstream.take(); n != 1 || strings.Count(answers, "HTTP/1.0 200 ")+strings.Count(answers, "HTTP/1.1 200 ") != 1 {
		t.Errorf("%d requests upstream, answered\n%s", n, answers)
	}
	r.check(r.stop())
}

// T-ADD-19: an HTTP/1.0 client gets no informational response (RFC 9110 section 15.2).
func TestNoInformationalAnswerToHTTP10(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	r.upstream.behave("hints")
	for version, want := range map[string]int{"HTTP/1.1": 1, "HTTP/1.0": 0} {
		conn, err := tls.Dial("tcp", r.addresses["partners"], r.client("northwind", "http/1.1"))
		r.check(err)
		answers := exchangeOf(t, conn, "", "GET /accounts/7 "+version+"\r\nHost: api.example.test\r\nConnection: close\r\nAuthorization: Bearer "+r.tokens["good"]+"\r\n\r\n", false, "")
		if n := strings.Count(answers, " 103 "); n != want || !strings.Contains(answers, "hinted") {
			t.Errorf("%s: %d informational answers, want %d\n%s", version, n, want, answers)
		}
	}
	r.check(r.stop())
}
