// Package http1 has the grammar of HTTP/1.1 messages (RFC 9112). The gate's server and its client for
// upstreams use the same grammar. The grammar refuses invalid bytes, and bytes that two implementations
// could read as different messages. It repairs nothing, and knows neither sockets nor deadlines.
package http1

import (
	"iter"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/ascii"
)

// A Field is a header or trailer field with its name and value as they were received, without the white
// space around the value.
type Field struct{ Name, Value string }

// Values yields the values of the fields with this name. The case of ASCII letters makes no difference.
func Values(fields []Field, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range fields {
			if f := &fields[i]; ascii.EqualFold(f.Name, name) && !yield(f.Value) {
				return
			}
		}
	}
}

// Has reports whether there is a field with this name.
func Has(fields []Field, name string) bool {
	for range Values(fields, name) {
		return true
	}
	return false
}

// HasToken reports whether the comma-separated lists in the fields with this name contain token (RFC
// 9110 section 5.6.1). The case of ASCII letters makes no difference.
func HasToken(fields []Field, name, token string) bool {
	for list := range Values(fields, name) {
		if ListHasToken(list, token) {
			return true
		}
	}
	return false
}

// ListHasToken reports whether list, a comma-separated list, contains token, as [HasToken] does.
func ListHasToken(list, token string) bool {
	for member := range strings.SplitSeq(list, ",") {
		if ascii.EqualFold(strings.Trim(member, " \t"), token) {
			return true
		}
	}
	return false
}

// ListsHaveToken reports whether any list in lists contains token. It compares as [HasToken] does.
func ListsHaveToken(lists []string, token string) bool {
	return slices.ContainsFunc(lists, func(list string) bool { return ListHasToken(list, token) })
}

// Lengths of a body that no number of bytes announces.
const (
	Chunked    int64 = -1 // the body uses the chunked coding
	UntilClose int64 = -2 // the body of a response ends with the connection
)

// A Request is the head of a request.
type Request struct {
	Method, Target string
	Minor          int     // the minor version, 0 or 1
	Host           string  // the authority in Target if there is one, otherwise the value of the field Host
	Fields         []Field // all fields in their order
	Length         int64   // the Content-Length, 0 without a body, or Chunked
}

// A Response is the head of a response.
type Response struct {
	Status int
	Minor  int     // the minor version, 0 or 1
	Fields []Field // all fields in their order
	Length int64   // the Content-Length, Chunked or UntilClose. See [Response.BodyLength].
}

// BodyLength returns the length of the body of r, the response to a request with method, or Chunked or
// UntilClose (RFC 9112 section 6.3).
func (r *Response) BodyLength(method string) int64 {
	if method == "HEAD" || r.Status < 200 || r.Status == 204 || r.Status == 304 {
		return 0
	}
	return r.Length
}

// Persistent reports whether the connection may carry another request after r, whatever its body, or after
// the final response that follows r. It may not after an informational response or a 204 that announces a
// body: the upstream may still send the body (RFC 9110 section 8.6, RFC 9112 section 6.1).
func (r *Response) Persistent() bool {
	if (r.Status < 200 || r.Status == 204) && (r.Length > 0 || r.Length == Chunked) {
		return false
	}
	return Persistent(r.Minor, r.Fields)
}

// Persistent reports whether a connection may carry another message after the message with these fields
// (RFC 9112 section 9.3). The gate does not keep connections of HTTP/1.0.
func Persistent(minor int, fields []Field) bool {
	return minor == 1 && !HasToken(fields, "Connection", "close")
}
