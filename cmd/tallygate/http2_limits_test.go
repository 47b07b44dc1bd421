package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/httpserver"
)

// T-ADD-13: a request whose content-length is not a number, is duplicated, or differs from its body
// is malformed (RFC 9113 section 8.1.1), and nothing of it is forwarded.
func TestHTTP2ContentLength(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.serveBoth()
	for name, tt := range map[string]struct {
		lengths []string
		body    string // "": the header ends the stream
	}{
		"negative":                  {[]string{"-1"}, "hello"},
		"negative, no body":         {[]string{"-1"}, ""},
		"with a sign":               {[]string{"+5"}, "hello"},
		"no number":                 {[]string{"abc"}, "hello"},
		"empty":                     {[]string{""}, "hello"},
		"empty, no body":            {[]string{""}, ""},
		"a list":                    {[]string{"5, 6"}, "hello"},
		"a list of equals":          {[]string{"5, 5"}, "hello"},
		"twice":                     {[]string{"5", "5"}, "hello"},
		"twice, unlike":             {[]string{"5", "6"}, "hello"},
		"twice, the second matches": {[]string{"6", "5"}, "hello"},
		"2^63":                      {[]string{"9223372036854775808"}, "hello"},
		"2^64 + 5":                  {[]string{"18446744073709551621"}, "hello"},
		"hexadecimal":               {[]string{"0x5"}, "hello"},
		"with a space":              {[]string{" 5"}, "hello"},
		"with an underscore":        {[]string{"0_5"}, "hello"},
		"without its body":          {[]string{"5"}, ""},
		"zero, with a body":         {[]string{"0"}, "hello"},
		"longer than the body":      {[]string{"6"}, "hello"},
		"shorter than the body":     {[]string{"4"}, "hello"},
	} {
		for listener, header := range map[string][]string{
			gate.PartnersListener: r.good("POST"),
			gate.IssuerListener:   {":method", "POST", ":scheme", "https", ":authority", "own.example.test", ":path", "/token", "content-type", "application/x-www-form-urlencoded"},
		} {
			t.Run(name+", "+listener, func(t *testing.T) {
				c := r.rawClientTo(t, listener, "northwind")
				for _, length := range tt.lengths {
					header = append(header[:len(header):len(header)], "content-length", length)
				}
				if err := c.send(1, tt.body == "", header...); err != nil {
					t.Fatal(err)
				}
				if tt.body != "" {
					_ = c.frames.WriteData(1, true, []byte(tt.body))
				}
				if got := c.outcome(1); got != "400" && got != "PROTOCOL_ERROR" {
					t.Errorf("became %q", got)
				}
				if received, n := r.upstream.take(); n > 0 || len(received) > 0 {
					t.Errorf("%d requests reached the upstream:\n%s", n, received)
				}
			})
		}
	}
	t.Run("zero, the body ends later", func(t *testing.T) {
		c := r.rawClient(t)
		r.check(c.send(1, false, append(r.good("POST"), "content-length", "0")...))
		r.check(c.frames.WriteData(1, true, nil))
		if got := c.outcome(1); got != "200" {
			t.Errorf("became %q", got)
		}
	})
	r.check(r.stop())
}

// T-HDR-09: a header field that is too long ends its stream with 431. The connection stays open,
// unless the field is far too long to be read.
func TestHTTP2LongField(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.serveBoth()
	for name, a := range r.attackers() {
		t.Run(name, func(t *testing.T) {
			c := r.rawClientTo(t, a.listener, a.certificate)
			want := "401" // the status of a request with a short header
			switch {
			case a.listener == gate.PartnersListener && a.certificate != "":
				want = "200"
			case a.listener == gate.IssuerListener && a.certificate == "":
				want = "200"
			case a.listener == gate.IssuerListener:
				want = "400"
			}
			for i, length := range []int{40_000, 60_000, 10} {
				stream := uint32(2*i + 1)
				if err := c.sendLong(stream, append(a.header[:len(a.header):len(a.header)], "x-long", strings.Repeat("x", length))...); err != nil {
					t.Fatal(err)
				}
				expected := want
				if length > 32<<10 {
					expected = "431"
				}
				if got := c.outcome(stream); got != expected {
					t.Errorf("a field of %d bytes became %q, want %s", length, got, expected)
				}
			}
			c = r.rawClientTo(t, a.listener, a.certificate)
			_ = c.sendLong(1, append(a.header[:len(a.header):len(a.header)], "x-long", strings.Repeat("x", 400_000))...)
			if got := c.outcome(1); got != "431" && got != "closed" && !strings.HasPrefix(got, "goaway") {
				t.Errorf("a field of 400,000 bytes became %q", got)
			}
		})
	}
	r.survives(t)
	r.check(r.stop())
}

// T-ADD-03: a request that announces thousands of trailers takes no more memory than other
// requests.
func TestHTTP2Trailers(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.serveBoth()
	r.upstream.behave("hang")
	for _, count := range []int{3000, 1000, 65} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			var names strings.Builder
			for i := range count {
				fmt.Fprintf(&names, ",a%d", i)
			}
			for name, a := range r.attackers() {
				var open sync.WaitGroup
				for range 20 {
					open.Go(func() {
						c, err := r.dialRaw(a.listener, a.certificate)
						if err != nil {
							t.Error(err)
							return
						}
						defer func() { _ = c.conn.Close() }()
						for stream := uint32(1); stream < 100; stream += 2 {
							if c.sendLong(stream, append(a.header[:len(a.header):len(a.header)], "trailer", names.String()[1:])...) != nil {
								return
							}
						}
						if got := c.outcome(99); got != "431" && got != "INTERNAL_ERROR" && !strings.HasPrefix(got, "goaway") {
							t.Errorf("%s: became %q", name, got)
						}
					})
				}
				open.Wait()
			}
			used, err := r.metric("process_resident_memory_bytes")
			r.check(err)
			t.Logf("the gate takes %.0f MiB", used/(1<<20))
			if used > 400<<20 {
				t.Errorf("the gate takes %.0f MiB, want 400 at most", used/(1<<20))
			}
		})
	}
	if _, n := r.upstream.peek(); n > 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	r.upstream.behave("echo")
	r.survives(t)
	r.check(r.stop())
}

// T-ADD-21: an HTTP/2 client that grants no window for responses cannot keep refused requests in
// memory: the response is a header only, or the stream is reset after seconds.
func TestHTTP2RefusalsWithoutWindow(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.serveBoth()
	many := func(fields []string, n int) []string {
		for range n {
			fields = append(fields, "a", "b")
		}
		return fields
	}
	for name, a := range r.attackers() {
		for _, c := range []struct {
			name   string
			fields []string
			ended  bool // by an answer, not by a reset
		}{
			{"a content-length that is no number", many([]string{"content-length", "x"}, 900), true},
			{"a header that is too long", []string{"x-long", strings.Repeat("x", 40_000)}, true},
			{"a header that is too long to be read", many(nil, 3000), false},
			{"a query with a token", nil, false},
		} {
			if c.fields == nil && a.listener != gate.PartnersListener {
				continue // not refused there
			}
			t.Run(name+", "+c.name, func(t *testing.T) {
				t.Parallel()
				client, err := r.dialRaw(a.listener, a.certificate)
				r.check(err)
				defer func() { _ = client.conn.Close() }()
				r.check(client.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize}))
				header := append(slices.Clone(a.header), c.fields...)
				if c.fields == nil {
					header[7] += "?access_token=x" // the value of :path
				}
				r.check(client.sendLong(1, header...))
				_ = client.conn.SetReadDeadline(time.Now().Add(2 * httpserver.RefusalTimeout))
				if end := client.end(1); end == "closed" || c.ended && end != "answer" {
					t.Errorf("the stream's end: %q", end)
				}
			})
		}
	}
}

// end waits for the end of a stream: "answer" for a complete response, "reset", or "closed" if
// nothing arrives in time.
func (c *rawClient) end(stream uint32) string {
	for {
		frame, err := c.frames.ReadFrame()
		if err != nil {
			return "closed"
		}
		if frame.Header().StreamID != stream {
			continue
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				return "answer"
			}
		case *http2.RSTStreamFrame:
			return "reset"
		}
	}
}
