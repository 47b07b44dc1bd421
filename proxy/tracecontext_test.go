package proxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/tracing"
)

const (
	goodParent  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	goodState   = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
	goodBaggage = "order=17;secret,branch=north%20east"
)

// passed returns the fields of the trace context that the gate passes on, for a request with the given fields.
func passed(fields ...string) []http1.Field {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	c := traceContextOf(r)
	return appendTraceFields(nil, c.parent, c.state, baggageOf(r))
}

// TestTraceparent has the forms of W3C Trace Context section 3.2, valid and malformed.
func TestTraceparent(t *testing.T) {
	const id, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for value, want := range map[string]string{
		goodParent:                                                    goodParent,
		"00-" + id + "-" + span + "-00":                               "00-" + id + "-" + span + "-00",
		"00-" + id + "-" + span + "-ff":                               "00-" + id + "-" + span + "-ff",
		"01-" + id + "-" + span + "-01":                               goodParent, // a later version
		"cc-" + id + "-" + span + "-01-what-ever":                     goodParent,
		"cc-" + id + "-" + span + "-01.what-ever":                     "",
		"cc-" + id + "-" + span + "-01" + strings.Repeat("-x", 1<<10): "",
		"":                                                   "",
		"00":                                                 "",
		"00-" + id + "-" + span + "-01-":                     "",
		"00-" + id + "-" + span + "-01-extra":                "",
		"00-" + id + "-" + span + "-1":                       "",
		"00-" + id + "-" + span + "-0g":                      "",
		"00-" + id + "-" + span + "-0A":                      "",
		"ff-" + id + "-" + span + "-01":                      "",
		"0g-" + id + "-" + span + "-01":                      "",
		"0A-" + id + "-" + span + "-01":                      "",
		"00-" + strings.ToUpper(id) + "-" + span + "-01":     "",
		"00-" + id + "-" + strings.ToUpper(span) + "-01":     "",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01": "",
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":   "",
		"00_" + id + "-" + span + "-01":                      "",
		"00-" + id + "_" + span + "-01":                      "",
		"00-" + id + "-" + span + "_01":                      "",
		" " + goodParent:                                     "",
		goodParent + "," + goodParent:                        "",
		"00-" + id[:31] + "-" + span + "-01":                 "",
		"00-" + id[:31] + "é-" + span + "-01":                "",
	} {
		var fields []http1.Field
		if want != "" {
			fields = []http1.Field{{Name: "traceparent", Value: want}, {Name: "tracestate", Value: goodState}}
		}
		if diff := cmp.Diff(fields, passed("traceparent", value, "tracestate", goodState)); diff != "" {
			t.Errorf("traceparent %q (-want +got):\n%s", value, diff)
		}
	}
}

// TestTraceContextFields has duplicates, malformed and long values of the other fields, and fields that
// Connection names.
func TestTraceContextFields(t *testing.T) {
	parent := http1.Field{Name: "traceparent", Value: goodParent}
	state, bag := http1.Field{Name: "tracestate", Value: goodState}, http1.Field{Name: "baggage", Value: goodBaggage}
	many := strings.TrimSuffix(strings.Repeat("a=1,", 70), ",")
	for name, tt := range map[string]struct{ fields, want []any }{
		"all":                      {[]any{parent, state, bag}, []any{parent, state, bag}},
		"baggage alone":            {[]any{bag}, []any{bag}},
		"state without a parent":   {[]any{state, bag}, []any{bag}},
		"two parents":              {[]any{parent, parent, state, bag}, []any{bag}},
		"malformed parent":         {[]any{http1.Field{Name: "traceparent", Value: "00-x"}, state, bag}, []any{bag}},
		"two lines of state":       {[]any{parent, state, http1.Field{Name: "tracestate", Value: "third=3"}}, []any{parent, state, http1.Field{Name: "tracestate", Value: "third=3"}}},
		"the same key twice":       {[]any{parent, state, state}, []any{parent}},
		"malformed state":          {[]any{parent, http1.Field{Name: "tracestate", Value: "NOT A STATE"}}, []any{parent}},
		"long state":               {[]any{parent, http1.Field{Name: "tracestate", Value: "a=" + strings.Repeat("x", 250) + ",b=" + strings.Repeat("x", 250) + ",c=" + strings.Repeat("x", 250) + ",d=" + strings.Repeat("x", 250) + ",e=" + strings.Repeat("x", 250)}}, []any{parent}},
		"malformed baggage":        {[]any{parent, http1.Field{Name: "baggage", Value: "a b"}}, []any{parent}},
		"long baggage":             {[]any{parent, http1.Field{Name: "baggage", Value: "a=" + strings.Repeat("x", 9000)}}, []any{parent}},
		"much state":               {[]any{parent, http1.Field{Name: "tracestate", Value: many}}, []any{parent}},
		"named in Connection":      {[]any{parent, state, bag, http1.Field{Name: "Connection", Value: "TraceParent, close"}}, []any{bag}},
		"others named":             {[]any{parent, state, bag, http1.Field{Name: "Connection", Value: "tracestate"}, http1.Field{Name: "Connection", Value: "baggage"}}, []any{parent}},
		"names that only resemble": {[]any{http1.Field{Name: "trace_parent", Value: goodParent}, http1.Field{Name: "Trace-Parent", Value: goodParent}}, nil},
	} {
		var fields []string
		for _, f := range tt.fields {
			fields = append(fields, f.(http1.Field).Name, f.(http1.Field).Value)
		}
		var want []http1.Field
		for _, f := range tt.want {
			want = append(want, f.(http1.Field))
		}
		if diff := cmp.Diff(want, passed(fields...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestIDsOfClients checks which ids of a client are kept, with a new id for the others.
func TestIDsOfClients(t *testing.T) {
	const uuid = "0E984725-c51c-4bf4-9960-e1c80e27aba0"
	settings := config.Correlation{RequestID: config.ClientRequestID, FAPIInteractionID: true}
	for _, tt := range []struct {
		id           string
		kept, isFAPI bool
	}{
		{"42", true, false}, {"a-_.:+/=Z9", true, false}, {uuid, true, true}, {strings.Repeat("x", 128), true, false}, {strings.ToLower(uuid), true, true},
		{"", false, false}, {strings.Repeat("x", 129), false, false}, {"a b", false, false}, {"a\"", false, false}, {"é", false, false}, {"a,b", false, false},
		{"${x}", false, false}, {"<x>", false, false}, {"a\tb", false, false}, {"%0a", false, false},
		{strings.ReplaceAll(uuid, "-", "_"), true, false}, {strings.ReplaceAll(uuid, "-", ""), true, false}, {uuid + "0", true, false}, {"g" + uuid[1:], true, false}, {"-" + uuid[1:], true, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header[requestID], r.Header[interactionID] = []string{tt.id}, []string{tt.id}
		c := checkedRequest{Checked: authorize.Checked{Request: r}}
		c.setIDs(settings)
		if kept := c.id == tt.id; kept != tt.kept || c.idFromClient != tt.kept || !isRequestID(c.id) {
			t.Errorf("X-Request-Id %q: the id is %q, taken from the client: %t, want kept: %t", tt.id, c.id, c.idFromClient, tt.kept)
		}
		if kept := c.interactionID == tt.id; kept != tt.isFAPI || !isUUID(c.interactionID) {
			t.Errorf("X-Fapi-Interaction-Id %q: the id is %q, want kept: %t, and a UUID", tt.id, c.interactionID, tt.isFAPI)
		}
		for _, spoil := range []func(){
			func() {
				r.Header[requestID] = append(r.Header[requestID], tt.id)
				r.Header[interactionID] = append(r.Header[interactionID], tt.id)
			},
			func() {
				r.Header["Connection"] = []string{"x-request-id, X-FAPI-Interaction-ID"}
				r.Header[requestID] = r.Header[requestID][:1]
			},
		} {
			spoil()
			c := checkedRequest{Checked: authorize.Checked{Request: r}}
			if c.setIDs(settings); c.id == tt.id || c.idFromClient || c.interactionID == tt.id {
				t.Errorf("ids of %v are kept: %q, %q", r.Header, c.id, c.interactionID)
			}
		}
		off := checkedRequest{Checked: authorize.Checked{Request: r}}
		if off.setIDs(config.Correlation{}); off.id == tt.id || off.idFromClient || off.interactionID != "" {
			t.Errorf("without settings: ids %q, %q, want a new id and no id", off.id, off.interactionID)
		}
	}
}

// TestTracedAllocations checks what tracing adds to a granted request whose trace is not recorded: the times, the
// two spans without data with their contexts, and traceparent. Without tracing nothing is added: TestHitAllocations.
func TestTracedAllocations(t *testing.T) {
	if raceEnabled() {
		t.Skip("under the race detector sync.Pool drops items on purpose")
	}
	s, _, serve := newHit(t)
	before := testing.AllocsPerRun(1000, serve)
	none := config.Ratio(0)
	s.cfg.Tracing = config.Tracing{Endpoint: gatetest.URL(t, "http://127.0.0.1:1"), Sample: &none}
	tracer, err := tracing.New(s.cfg, tracing.Options{Log: s.log, Metrics: tracing.NewMetrics(prometheus.NewRegistry()), Lease: s.lease})
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	s.proxy.tracer = tracer
	const budget = 13
	if n := testing.AllocsPerRun(1000, serve) - before; n > budget {
		t.Errorf("tracing adds %v allocations to a request, want at most %v", n, budget)
	}
}
