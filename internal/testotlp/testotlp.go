// Package testotlp runs a collector for the tests: a real server that takes spans by OTLP over HTTP.
package testotlp

import (
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A Collector keeps the messages that it receives. It is safe for concurrent use.
type Collector struct {
	*httptest.Server
	mu        sync.Mutex
	spans     []Span
	received  []byte
	header    http.Header
	faults    []string
	responder http.HandlerFunc
}

// A Span is a received span.
type Span struct {
	*tracepb.Span
	Resource map[string]string // the attributes of the program that made the span
}

// Start starts a collector that shows the certificate of pair. If pair is nil, the collector speaks HTTP without TLS.
func Start(pair *testpki.Pair) *Collector {
	c := &Collector{}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(c.take))
	if pair == nil {
		c.Server.Start()
		return c
	}
	c.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
	c.StartTLS()
	return c
}

// Respond makes f answer all further requests, and the Collector drops their spans. If f is nil, the Collector
// takes spans again.
func (c *Collector) Respond(f http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.responder = f
}

func (c *Collector) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	if respond := c.responder; respond != nil {
		c.mu.Unlock()
		respond(w, r)
		return
	}
	defer c.mu.Unlock()
	c.received, c.header = append(c.received, body...), r.Header
	var message tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &message)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.faults = append(c.faults, fmt.Sprintf("%s %s of %s: %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), err))
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, group := range message.GetResourceSpans() {
		resource := attributes(group.GetResource().GetAttributes())
		for _, scope := range group.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, Span{span, resource})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Spans returns the spans received so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Received returns all bytes of all messages, and the header of the last.
func (c *Collector) Received() ([]byte, http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.received), c.header.Clone()
}

// Wait waits for n spans, and returns them. It fails the test for a request that is not OTLP.
func (c *Collector) Wait(t testing.TB, n int) []Span {
	t.Helper()
	gatetest.Eventually(t, strconv.Itoa(n)+" spans", func() bool { return len(c.Spans()) >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fault := range c.faults {
		t.Error(fault)
	}
	return slices.Clone(c.spans)
}

// Trace returns the spans with this trace id in hexadecimal, by their names.
func Trace(spans []Span, id string) map[string]Span {
	found := make(map[string]Span)
	for _, s := range spans {
		if hex.EncodeToString(s.GetTraceId()) == id {
			found[s.GetName()] = s
		}
	}
	return found
}

// Attributes returns the attributes of s as texts.
func (s Span) Attributes() map[string]string { return attributes(s.Span.GetAttributes()) }

func attributes(list []*commonpb.KeyValue) map[string]string {
	values := make(map[string]string)
	for _, a := range list {
		value := a.GetValue().String() // such as string_value:"x"
		_, value, _ = strings.Cut(value, ":")
		if text, err := strconv.Unquote(value); err == nil {
			value = text
		}
		values[a.GetKey()] = value
	}
	return values
}
