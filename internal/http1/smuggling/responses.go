package smuggling

import (
	"fmt"
	"strings"
)

// A Response is what an upstream sends on a connection after it has read a request.
type Response struct {
	Name   string
	Method string // the method of the request
	Bytes  string
	// HangUp says that the upstream then ends the connection; otherwise it waits for another request.
	HangUp bool
	// With a fault in the head, the client gets 502. With a fault in the body, the client gets a truncated
	// body. In both cases the gate sends no further request on the connection.
	Fault Fault
	// Status and Body are what the client gets without a fault.
	Status int
	Body   string
	// Spent says that the gate sends no further request on the connection, although the response is valid.
	Spent bool
}

// Poison is the body of injected responses. No client may get it.
const Poison = "poison"

// A responses collects responses.
type responses []Response

// Responses returns the table. A valid body is "fine".
func Responses() []Response {
	var t responses
	t.lengths()
	t.codings()
	t.statusLines()
	t.fields()
	t.truncated()
	t.chunks()
	t.valid()
	return t
}

// bad adds a response with a fault in its head.
func (t *responses) bad(name, bytes string) {
	*t = append(*t, Response{Name: name, Method: "GET", Bytes: bytes, Fault: InHead})
}

// badHead adds a response with malformed field lines and the body "fine". lines has the field lines.
func (t *responses) badHead(name, lines string) {
	t.bad(name, "HTTP/1.1 200 OK\r\n"+lines+"\r\nfine")
}

// cut adds a response that has a valid head and ends too early.
func (t *responses) cut(name, bytes string) {
	*t = append(*t, Response{Name: name, Method: "GET", Bytes: bytes, HangUp: true, Fault: InBody})
}

// good adds a valid response.
func (t *responses) good(r Response) {
	if r.Method == "" {
		r.Method = "GET"
	}
	if r.Status == 0 {
		r.Status = 200
	}
	*t = append(*t, r)
}

const (
	fine       = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
	chunkedOK  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	fineChunk  = "4\r\nfine\r\n"
	poisonous  = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + Poison
	maxHead    = 64 << 10 // bytes of the head of a response
	longString = maxHead + 1000
)

func (t *responses) lengths() {
	for _, value := range []string{"+4", "-4", "0x4", "4.0", "", "4, 4", "4,5", "4 4", "4;", "\"4\"", "four", "9223372036854775808", "99999999999999999999999999", "4\x00", "\v4", "-1"} {
		t.badHead(fmt.Sprintf("Content-Length %q", value), "Content-Length: "+value+"\r\n")
	}
	t.badHead("two equal lengths", "Content-Length: 4\r\nContent-Length: 4\r\n")
	t.badHead("two lengths", "Content-Length: 4\r\nContent-Length: 5\r\n")
	t.badHead("two lengths, the second 0", "Content-Length: 4\r\ncontent-length: 0\r\n")
	t.badHead("a folded length", "Content-Length:\r\n 4\r\n")
	t.badHead("a length that goes on", "Content-Length: 4\r\n 0\r\n")
	t.badHead("a length before a space", "Content-Length : 4\r\n")
	t.badHead("a length before a NUL", "Content-Length\x00: 4\r\n")
}

func (t *responses) codings() {
	both := "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
	t.bad("CL.TE", "HTTP/1.1 200 OK\r\n"+both+"\r\n"+fineChunk+last)
	t.bad("TE.CL", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"+fineChunk+last)
	t.bad("CL.TE with a second response", "HTTP/1.1 200 OK\r\n"+both+"\r\n"+last+poisonous)
	t.bad("both, length 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"+fineChunk+last)
	t.bad("HTTP/1.0 with a coding", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+fineChunk+last)
	t.bad("HTTP/1.0 with both", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"+both+"\r\nfine")
	for _, value := range []string{"gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked, identity", "identity", "xchunked", "chunked;q=1", "", "\vchunked", "chunked\x00", "chunked,", "\"chunked\"", "deflate"} {
		t.bad(fmt.Sprintf("Transfer-Encoding %q", value), "HTTP/1.1 200 OK\r\nTransfer-Encoding: "+value+"\r\n\r\n"+fineChunk+last)
	}
	t.bad("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"+fineChunk+last)
	t.bad("a length and a coding before a space", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\nfine")
	t.bad("a length and a folded coding", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\nfine")
}

func (t *responses) statusLines() {
	for _, line := range []string{
		"HTTP/1.1 099 Odd", "HTTP/1.1 1000 Odd", "HTTP/1.1 abc OK", "HTTP/1.1 2 OK", "HTTP/1.1 20 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 -20 OK", "HTTP/1.1 2e2 OK", "HTTP/1.1 200OK", "HTTP/1.1 000 OK", "HTTP/1.1 0200 OK",
		"HTTP/1.1  200 OK", "HTTP/1.1\t200 OK", "HTTP/1.1 200\tOK", "HTTP/1.1 200 O\x00K", "HTTP/1.1 200 O\rK", "HTTP/1.1 200 O\x1bK", "HTTP/1.1", "HTTP/1.1 ", " HTTP/1.1 200 OK", "HTTP/1.1 20\x00 OK",
		"HTTP/1.2 200 OK", "HTTP/1.10 200 OK", "HTTP/2.0 200 OK", "HTTP/2 200 OK", "HTTP/0.9 200 OK", "HTTP/3.0 200 OK", "http/1.1 200 OK", "HTTP/1. 200 OK", "HTTP/11 200 OK", "ICY 200 OK", "XTTP/1.1 200 OK", "200 OK",
	} {
		t.bad(fmt.Sprintf("%q", line), line+"\r\nContent-Length: 4\r\n\r\nfine")
	}
	t.bad("an empty line first", "\r\n"+fine)
	t.bad("an empty line of LF first", "\n"+fine)
	t.bad("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n")
	t.bad("HTTP/0.9", "<html>fine</html>")
	(*t)[len(*t)-1].HangUp = true
	t.bad("a TLS record", "\x15\x03\x01\x00\x02\x02\x46")
	(*t)[len(*t)-1].HangUp = true
	t.bad("a long status line", "HTTP/1.1 200 "+strings.Repeat("x", longString)+"\r\nContent-Length: 4\r\n\r\nfine")
	for name, head := range map[string]string{"nothing": "", "half a status line": "HTTP/1.1 20", "half a head": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", "half a field": "HTTP/1.1 200 OK\r\nContent-Len"} {
		t.bad(name, head)
		(*t)[len(*t)-1].HangUp = true
	}
	t.bad("100 and no more", "HTTP/1.1 100 Continue\r\n\r\n")
	(*t)[len(*t)-1].HangUp = true
	t.bad("an unasked switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+fine)
}

func (t *responses) fields() {
	t.badHead("LF behind a field", "X-Note: a\nContent-Length: 4\r\n")
	t.bad("LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 4\r\n\r\nfine")
	t.bad("LF alone", strings.ReplaceAll(fine, "\r\n", "\n"))
	t.bad("LF at the end of the head", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\nfine")
	t.bad("CR behind a field", "HTTP/1.1 200 OK\r\nX-Note: a\rContent-Length: 4\r\n\r\nfine")
	t.bad("CR CR LF", strings.ReplaceAll(fine, "\r\n", "\r\r\n"))
	t.badHead("a folded field", "X-Note: a\r\n b\r\nContent-Length: 4\r\n")
	t.badHead("a folded field, by a tab", "X-Note: a\r\n\tb\r\nContent-Length: 4\r\n")
	t.badHead("a folded line at first", " X-Note: a\r\nContent-Length: 4\r\n")
	t.badHead("a space before a colon", "X-Note : a\r\nContent-Length: 4\r\n")
	t.badHead("no colon", "X-Note\r\nContent-Length: 4\r\n")
	t.badHead("no name", ": a\r\nContent-Length: 4\r\n")
	for _, name := range []string{"X Note", "X\x00Note", "X-\xff", "X@Note", "X(Note)"} {
		t.badHead(fmt.Sprintf("the field name %q", name), name+": a\r\nContent-Length: 4\r\n")
	}
	for _, value := range []string{"a\x00b", "a\x01b", "a\vb", "a\x1bb", "a\x7fb", "a\rb"} {
		t.badHead(fmt.Sprintf("the field value %q", value), "X-Note: "+value+"\r\nContent-Length: 4\r\n")
	}
	t.badHead("a field above 64 KiB", "X-Note: "+strings.Repeat("x", longString)+"\r\nContent-Length: 4\r\n")
	t.badHead("fields above 64 KiB", strings.Repeat("X-Note: abcdefgh\r\n", longString/18)+"Content-Length: 4\r\n")
}

// truncated adds responses that the end of the connection cuts off.
func (t *responses) truncated() {
	t.cut("nothing of a body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
	t.cut("half a body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi")
	t.cut("half a long body", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 500_000))
	t.cut("no chunk", chunkedOK)
	t.cut("half a size", chunkedOK+"4")
	t.cut("a size alone", chunkedOK+"4\r\n")
	t.cut("half a chunk", chunkedOK+"4\r\nfi")
	t.cut("a chunk without its end", chunkedOK+"4\r\nfine")
	t.cut("chunks without the last", chunkedOK+fineChunk)
	t.cut("half the last chunk", chunkedOK+fineChunk+"0")
	t.cut("the last chunk without an end", chunkedOK+fineChunk+"0\r\n")
	t.cut("CR at the end", chunkedOK+fineChunk+"0\r\n\r")
	t.cut("half a trailer", chunkedOK+fineChunk+"0\r\nX-Sum: a\r\n")
	t.cut("many chunks without the last", chunkedOK+strings.Repeat(fineChunk, 50_000))
}

// chunks adds responses with malformed chunks.
func (t *responses) chunks() {
	for name, body := range map[string]string{
		"a size that is no number": "x\r\nfine\r\n" + last, "a size with a sign": "+4\r\nfine\r\n" + last, "a size of 17 digits": "00000000000000004\r\nfine\r\n" + last, "a size above 64 bits": "ffffffffffffffff0\r\nfine\r\n" + last,
		"a size with 0x": "0x4\r\nfine\r\n" + last, "an empty size": "\r\nfine\r\n" + last, "a space behind a size": "4 \r\nfine\r\n" + last, "a space before a size": " 4\r\nfine\r\n" + last,
		"LF behind a size": "4\nfine\r\n" + last, "LF behind a chunk": "4\r\nfine\n" + last, "no end behind a chunk": "4\r\nfine" + last, "a chunk longer than its size": "4\r\nfinest\r\n" + last, "CR CR LF behind a size": "4\r\r\nfine\r\n" + last,
		"LF in an extension": "4;a\nfine\r\n" + last, "CR in an extension": "4;a\rb\r\nfine\r\n" + last, "NUL in an extension": "4;a=\x00\r\nfine\r\n" + last, "an extension without a name": "4;\r\nfine\r\n" + last,
		"LF behind the last size": fineChunk + "0\n\r\n", "LF at the end": fineChunk + "0\r\n\n", "another byte at the end": fineChunk + "0\r\n\rX",
		"a length in the trailer": fineChunk + "0\r\nContent-Length: 4\r\n\r\n", "a coding in the trailer": fineChunk + "0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"NUL in the trailer": fineChunk + "0\r\nX-Sum: \x00\r\n\r\n", "LF in the trailer": fineChunk + "0\r\nX-Sum: a\n\r\n", "a folded trailer": fineChunk + "0\r\nX-Sum: a\r\n b\r\n\r\n", "a space before a colon in the trailer": fineChunk + "0\r\nX-Sum : a\r\n\r\n",
		"no colon in the trailer": fineChunk + "0\r\nX-Sum\r\n\r\n", "a trailer above 64 KiB": fineChunk + "0\r\nX-Sum: " + strings.Repeat("x", longString) + "\r\n\r\n",
	} {
		*t = append(*t, Response{Name: name, Method: "GET", Bytes: chunkedOK + body, Fault: InBody})
	}
}

// valid adds responses that are valid and unambiguous.
func (t *responses) valid() {
	t.good(Response{Name: "a length", Bytes: fine, Body: "fine"})
	t.good(Response{Name: "a length in lower case", Bytes: "HTTP/1.1 200 OK\r\ncontent-length:4\r\n\r\nfine", Body: "fine"})
	t.good(Response{Name: "length 0", Bytes: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"})
	t.good(Response{Name: "no reason", Bytes: "HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\nfine", Body: "fine"})
	t.good(Response{Name: "a reason above 127", Bytes: "HTTP/1.1 200 \xff\r\nContent-Length: 4\r\n\r\nfine", Body: "fine"})
	t.good(Response{Name: "chunks", Bytes: chunkedOK + "2\r\nfi\r\n02;a=\"b;\"\r\nne\r\n000\r\n\r\n", Body: "fine"})
	t.good(Response{Name: "chunks and a trailer", Bytes: chunkedOK + fineChunk + "0\r\nX-Sum: a\r\n\r\n", Body: "fine"})
	t.good(Response{Name: "CHUNKED", Bytes: "HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n" + fineChunk + last, Body: "fine"})
	t.good(Response{Name: "until the end", Bytes: "HTTP/1.1 200 OK\r\n\r\nfine", HangUp: true, Body: "fine", Spent: true})
	t.good(Response{Name: "close", Bytes: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine", Body: "fine", Spent: true})
	t.good(Response{Name: "HTTP/1.0", Bytes: "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine", Body: "fine", Spent: true})
	t.good(Response{Name: "HTTP/1.0 until the end", Bytes: "HTTP/1.0 200 OK\r\n\r\nfine", HangUp: true, Body: "fine", Spent: true})
	t.good(Response{Name: "a second response behind it", Bytes: fine + poisonous, Body: "fine", Spent: true})
	t.good(Response{Name: "a byte behind it", Bytes: fine + "\n", Body: "fine", Spent: true})
	t.good(Response{Name: "a second response behind chunks", Bytes: chunkedOK + fineChunk + last + poisonous, Body: "fine", Spent: true})
	t.good(Response{Name: "HEAD", Method: "HEAD", Bytes: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"})
	t.good(Response{Name: "HEAD with chunks", Method: "HEAD", Bytes: chunkedOK})
	t.good(Response{Name: "HEAD with a body", Method: "HEAD", Bytes: fine, Spent: true})
	t.good(Response{Name: "204", Bytes: "HTTP/1.1 204 No Content\r\n\r\n", Status: 204})
	t.good(Response{Name: "204 with a body", Bytes: "HTTP/1.1 204 No Content\r\n\r\n" + poisonous, Status: 204, Spent: true})
	t.good(Response{Name: "304 with a length", Bytes: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", Status: 304})
	t.good(Response{Name: "304 with a body", Bytes: "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n" + Poison, Status: 304, Spent: true})
	t.good(Response{Name: "100 first", Bytes: "HTTP/1.1 100 Continue\r\n\r\n" + fine, Body: "fine"})
	t.good(Response{Name: "103 first", Bytes: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + fine, Body: "fine"})
	t.good(Response{Name: "a value above 127", Bytes: "HTTP/1.1 200 OK\r\nX-Note: \xff\r\nX-Empty:\r\nContent-Length: 4\r\n\r\nfine", Body: "fine"})
	t.good(Response{Name: "Connection: Content-Length", Bytes: "HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 4\r\n\r\nfine", Body: "fine"})
}
