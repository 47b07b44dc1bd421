package proxy

import (
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/upstream"
)

// makeRequest makes x.out, the request to the upstream. It does not change the request of the client.
// The gate's own fields are set last, so that nothing that the client sends can remove them or add to
// them.
func (x *exchange) makeRequest(up *upstream.Upstream) {
	r, out, rules := x.Request, &x.out, x.proxy.headers
	*out = upstream.Request{
		Method: r.Method, Target: target(r), Host: r.Host, Fields: x.fields[:0],
		Informer: x,
	}
	if x.Decision.Preflight {
		x.makePreflight()
		return
	}
	out.Fields = rules.appendAllowed(out.Fields, &x.conn, r, rules.authorization && x.assertion == "") // an assertion replaces the token
	out.Fields = rules.setIdentityHeaders(out.Fields, &x.checkedRequest)
	out.Fields = x.appendTraceContext(out.Fields)
	out.Trailers = http1.ListsHaveToken(r.Header["Te"], "trailers")
	if x.Upgrade { // decide grants an upgrade to WebSocket only
		out.Upgrade = string(config.WebSocket)
	}
	if authorize.HasBody(r) {
		out.Length = r.ContentLength
		out.Body = &x.body
		x.body.source = r.Body
		if r.ContentLength < 0 { // decide has compared a known length with the limit
			// MaxBytesReader gets no ResponseWriter, because the transport reads on a goroutine of its own, which
			// must not touch the response.
			x.body.source = http.MaxBytesReader(nil, r.Body, x.Checks.BodyBytes)
		}
		out.Close = x.Decision.AnyBody && up.Protocol == config.HTTP1
	}
}

// target returns the same bytes of path and query that package policy has matched.
func target(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	return r.URL.RequestURI() // the absolute form, whose path and query policy has compared with r.URL
}

// appendAllowed appends the fields of r that the upstream may get to fields. Over HTTP/1.1 they keep
// their order and spelling. The upstream gets neither the fields that concern the client's connection or
// that Connection names, nor a field that equals or resembles a field of the gate.
func (f *headerRules) appendAllowed(fields []http1.Field, conn *clientConn, r *http.Request, authorization bool) []http1.Field {
	var named http1.NamedFields
	for _, value := range r.Header["Connection"] {
		named.Add(value)
	}
	allow := func(name string) bool {
		if named.Has(name) {
			return false
		}
		return !f.isReserved(name) || authorization && strings.EqualFold(name, "Authorization")
	}
	if conn.fields != nil {
		for _, field := range conn.fields.RequestFields() {
			if allow(field.Name) {
				fields = append(fields, field)
			}
		}
		return fields
	}
	for name, values := range r.Header {
		if allow(name) {
			for _, value := range values {
				fields = append(fields, http1.Field{Name: name, Value: value})
			}
		}
	}
	return fields
}
