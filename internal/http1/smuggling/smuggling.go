// Package smuggling has the messages of public catalogues of request smuggling, written anew as bytes,
// each with its reading by RFC 9112. It uses only the standard library and shares no code with the code
// under test, so that tests notice faults of that code. Only tests import this package.
//
// The names of attacks are those of their authors: CL.TE, TE.CL and TE.TE (HTTP Desync Attacks, 2019),
// CL.0 and 0.CL (Browser-Powered Desync Attacks, 2022; HTTP/1.1 Must Die, 2025), TERM.EXT, EXT.TERM,
// SPILL and ONE.TWO (Funky Chunks, 2025).
package smuggling

import "fmt"

// A Fault says where bytes stop being a valid message.
type Fault uint8

// The faults.
const (
	Valid  Fault = iota
	InHead       // in the request line or the header: nothing of the message may be used
	InBody       // in the body or the trailer, behind a valid header: the message has no end
)

// A Message is a valid request of HTTP/1.x. Target has the bytes of the request line.
type Message struct{ Method, Target, Body string }

// A Request has the bytes that a client sends on a connection.
type Request struct {
	Name  string
	Bytes string
	// Messages are the complete messages in Bytes before the fault, or all messages if there is no fault.
	Messages []Message
	Fault    Fault
	// Status is the answer to the last message. It is 200, or the status of a rule beyond the grammar.
	// The answer to a fault is 400, and the end of the connection.
	Status int
	// Closes says that the connection ends after the last message, since its client speaks HTTP/1.0.
	Closes bool
}

// A table collects requests to one target.
type table struct {
	target, host, fields string
	requests             []Request
}

// Requests returns the table for a target and a host. fields are further header fields, each with its CR LF.
// A server must see only the targets in Messages. Every other target in Bytes contains "smuggled".
func Requests(target, host, fields string) []Request {
	t := &table{target: target, host: host, fields: fields}
	t.lengths()
	t.codings()
	t.obfuscatedCodings()
	t.bodies()
	t.chunkSizes()
	t.chunkEnds()
	t.extensions()
	t.trailers()
	t.requestLines()
	t.versions()
	t.targets()
	t.fieldLines()
	t.hosts()
	t.connections()
	t.expectations()
	return t.requests
}

// Next returns a valid request that a test sends after one of Requests on the same connection. After a fault,
// the server must not read it.
func Next(target, host, fields string) string {
	return "GET " + target + "-next HTTP/1.1\r\nHost: " + host + "\r\n" + fields + "Connection: close\r\n\r\n"
}

// bad adds a request with a fault in its head.
func (t *table) bad(name, bytes string) {
	t.requests = append(t.requests, Request{Name: name, Bytes: bytes, Fault: InHead})
}

// badBody adds a request with a fault in its body.
func (t *table) badBody(name, body string) {
	t.requests = append(t.requests, Request{Name: name, Bytes: t.chunked(body), Fault: InBody})
}

// good adds valid requests.
func (t *table) good(name, bytes string, messages ...Message) {
	t.answered(200, name, bytes, messages...)
}

// answered adds valid requests. The answer to the last request has the given status, which is not 200.
func (t *table) answered(status int, name, bytes string, messages ...Message) {
	t.requests = append(t.requests, Request{Name: name, Bytes: bytes, Messages: messages, Status: status})
}

func (t *table) head(method, version, more string) string {
	return method + " " + t.target + " " + version + "\r\nHost: " + t.host + "\r\n" + t.fields + more + "\r\n"
}

func (t *table) get(more string) string { return t.head("GET", "HTTP/1.1", more) }

func (t *table) post(more, body string) string { return t.head("POST", "HTTP/1.1", more) + body }

func (t *table) chunked(body string) string {
	return t.post("Transfer-Encoding: chunked\r\n", body)
}

// counted returns a request with its Content-Length.
func (t *table) counted(more, body string) string {
	return t.post(fmt.Sprintf("Content-Length: %d\r\n", len(body))+more, body)
}

// smuggled returns the request that the attacks carry in bodies and behind them.
func (t *table) smuggled() string {
	return "GET " + t.target + "-smuggled HTTP/1.1\r\nHost: " + t.host + "\r\n" + t.fields + "\r\n"
}

func (t *table) read(body string) Message { return Message{"POST", t.target, body} }

func (t *table) got() Message { return Message{"GET", t.target, ""} }
