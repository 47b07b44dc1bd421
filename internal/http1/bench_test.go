package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

var typical = []byte("GET /accounts/v1/accounts/4711/transactions?from=2026-01-01 HTTP/1.1\r\nHost: api.example.test\r\nUser-Agent: partner-client/4.2 (linux; amd64)\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\nAuthorization: Bearer " + strings.Repeat("eyJhbGciOi", 60) + "\r\nX-Request-Id: 5d0c1b3e-7c1e-4c53-9f0c-1f4a0f2f7a11\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nCache-Control: no-cache\r\n\r\n")

func BenchmarkParseRequest(b *testing.B) {
	var p Parser
	var fields []Field
	b.ReportAllocs()
	for b.Loop() {
		p.Reset()
		r, n, err := p.ParseRequest(typical, fields)
		if n == 0 || err != nil {
			b.Fatal(err)
		}
		fields = r.Fields
	}
}

func BenchmarkReadRequest(b *testing.B) {
	from := bytes.NewReader(nil)
	in := bufio.NewReader(from)
	b.ReportAllocs()
	for b.Loop() {
		from.Reset(typical)
		in.Reset(from)
		if _, err := http.ReadRequest(in); err != nil {
			b.Fatal(err)
		}
	}
}
