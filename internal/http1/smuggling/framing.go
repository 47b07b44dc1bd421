package smuggling

import (
	"fmt"
	"strings"
)

const last = "0\r\n\r\n" // the last chunk

// lengths adds requests with a Content-Length (RFC 9112 section 6.3, RFC 9110 section 8.6).
func (t *table) lengths() {
	for _, value := range []string{
		"+5", "-5", "0x5", "5.0", "5e0", "5;", "5 5", "\"5\"", "0b101", "0o5", "5_0", "five", "",
		"\v5", "5\v", "5\f", "\x005", "5\x00", "5\xa0", "\xef\xbb\xbf5", "5,", ",5", "5, 5", "5,6", "5\t5",
		"9223372036854775808", "18446744073709551621", "4294967301x", "99999999999999999999999999999999", "-0", "+0", "0x0", "-1",
	} {
		t.bad(fmt.Sprintf("Content-Length %q", value), t.post("Content-Length: "+value+"\r\n", "hello"))
	}
	t.bad("two equal lengths", t.post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"))
	t.bad("two lengths", t.post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"))
	t.bad("two lengths, the first 0", t.post("Content-Length: 0\r\nContent-Length: 5\r\n", "hello"))
	t.bad("two lengths with a field between", t.post("Content-Length: 5\r\nX-Note: a\r\ncontent-length: 0\r\n", "hello"))
	t.bad("two lengths with GET", t.get("Content-Length: 0\r\nContent-Length: 0\r\n"))
	t.bad("a folded length", t.post("Content-Length:\r\n 5\r\n", "hello"))
	t.bad("a folded length, by a tab", t.post("Content-Length:\r\n\t5\r\n", "hello"))
	t.bad("a length that goes on", t.post("Content-Length: 5\r\n 0\r\n", "hello"))
	t.bad("a length before a space", t.post("Content-Length : 5\r\n", "hello"))
	t.bad("a length before a tab", t.post("Content-Length\t: 5\r\n", "hello"))
	t.bad("a length behind a space", t.post("X-Note: a\r\n Content-Length: 5\r\n", "hello"))
	t.bad("a length behind a CR", t.post("X-Note: a\rContent-Length: 5\r\n", "hello"))
	t.bad("a length behind an LF", t.post("X-Note: a\nContent-Length: 5\r\n", "hello"))
	t.bad("a length before a CR", t.post("Content-Length\r: 5\r\n", "hello"))
	t.bad("a length without a colon", t.post("Content-Length 5\r\n", "hello"))

	hello := t.read("hello")
	for _, field := range []string{"Content-Length: 5", "content-length:5", "CONTENT-LENGTH: \t 5 \t", "Content-Length: 005", "Content-Length: " + strings.Repeat("0", 40) + "5"} {
		t.good(fmt.Sprintf("%q", field), t.post(field+"\r\n", "hello"), hello)
	}
	t.good("length 0", t.post("Content-Length: 0\r\n", ""), t.read(""))
	t.good("no length", t.post("", ""), t.read(""))
	t.good("length 0 with GET", t.get("Content-Length: 0\r\n"), t.got())
	t.good("a field with an underscore is no length", t.counted("Content_Length: 3\r\n", "hello"), hello)
	t.good("a longer name is no length", t.counted("Content-Length-: 3\r\nX-Content-Length: 3\r\nContent-Lengt: 3\r\n", "hello"), hello)
}

// codings adds requests with a Transfer-Encoding (RFC 9112 section 6.1). Content-Length beside it is a
// fault.
func (t *table) codings() {
	smuggled := t.smuggled()
	t.bad("CL.TE", t.post(fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n", len(last+smuggled)), last+smuggled))
	t.bad("TE.CL", t.post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n%s", len(smuggled), smuggled, last)))
	t.bad("both, the coding first", t.post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", last))
	t.bad("both, length 0", t.post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", last))
	t.bad("both, with GET", t.get("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n")+last)
	t.bad("HTTP/1.0 with a coding", t.head("POST", "HTTP/1.0", "Transfer-Encoding: chunked\r\n")+last)
	t.bad("HTTP/1.0, keep-alive, with a coding", t.head("POST", "HTTP/1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n")+last)
	t.bad("HTTP/1.0 with both", t.head("POST", "HTTP/1.0", "Connection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n")+last)
	t.bad("two codings", t.post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", last))
	t.bad("TE.TE, the second unknown", t.post("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", last))
	t.bad("TE.TE, the first unknown", t.post("Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n", last))
	t.bad("TE.TE, the second empty", t.post("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", last))
	for _, value := range []string{
		"", "chunk", "chunkedx", "xchunked", "chunke\x00d", "chunked,", ",chunked", "chunked, chunked", "chunked, identity", "identity, chunked",
		"identity", "gzip, chunked", "chunked, gzip", "gzip", "deflate", "compress", "x-chunked", "chunked;q=1", "chunked; a=b", "chunked x", "x chunked",
		"\"chunked\"", "'chunked'", "chunked-", "c hunked", "chun\tked", "chun\rked", "\u212ahunked", "chun\u212aed", "chunked\u00a0", "\ufeffchunked", "ch\u00fcnked", "[chunked]", "chunked,\x00", "\\chunked",
	} {
		t.bad(fmt.Sprintf("Transfer-Encoding %q", value), t.post("Transfer-Encoding: "+value+"\r\n", last))
		t.bad(fmt.Sprintf("a length and Transfer-Encoding %q", value), t.post("Content-Length: 5\r\nTransfer-Encoding: "+value+"\r\n", last))
	}
	t.bad("a folded coding", t.post("Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n", last))
	t.bad("a coding that goes on", t.post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n , identity\r\n", last))
	for _, field := range []string{"Transfer-Encoding: chunked", "transfer-encoding:chunked", "TRANSFER-ENCODING: CHUNKED", "Transfer-Encoding: \t chunked \t"} {
		t.good(fmt.Sprintf("%q", field), t.post(field+"\r\n", "5\r\nhello\r\n"+last), t.read("hello"))
	}
	for _, field := range []string{"Transfer_Encoding: chunked", "Transfer-Encodin: chunked", "Transfer-Encoding-: chunked", "X-Transfer-Encoding: chunked", "Content-Encoding: chunked", "TransferEncoding: chunked", "TE: trailers"} {
		t.good(fmt.Sprintf("%q is no coding", field), t.counted(field+"\r\n", last), t.read(last))
	}
}

// obfuscatedCodings adds requests with a Content-Length and, in another field, the text of a
// Transfer-Encoding in which a single byte is inserted. A server must refuse them, or use the Content-Length
// if the text is only part of a field value.
func (t *table) obfuscatedCodings() {
	for _, c := range []byte("\x00\x01\x04\x08\t\n\v\f\r\x0e\x1b\x1f \x7f\x80\x85\xa0\xad\xff") {
		text := c >= 0x80 || c == ' ' || c == '\t' // field-vchar or white space, RFC 9110 section 5.5
		for _, f := range []struct {
			form  string
			value bool // the byte is in a field value, where it is valid if text is true
		}{
			{"Transfer-Encoding%sX: chunked", false},
			{"Transfer-Encoding%s: chunked", false},
			{"%sTransfer-Encoding: chunked", false},
			{"Transfer%sEncoding: chunked", false},
			{"Transfer-Encoding: chunked%sx", false},
			{"X-Note: a%sTransfer-Encoding: chunked", true},
			{"X-Note: a\r%sTransfer-Encoding: chunked", false},
			{"X-Note: a%s\r\nX-More: Transfer-Encoding: chunked", true},
		} {
			field := fmt.Sprintf(f.form, string([]byte{c}))
			name, bytes := fmt.Sprintf("a length and %q", field), t.counted(field+"\r\n", last)
			if f.value && text {
				t.good(name, bytes, t.read(last))
			} else {
				t.bad(name, bytes)
			}
		}
	}
}

// bodies adds requests whose bodies contain further requests or chunks. Only the framing in the header of the
// outer request says where its body ends.
func (t *table) bodies() {
	smuggled := t.smuggled()
	chunk := fmt.Sprintf("%x\r\n%s\r\n%s", len(smuggled), smuggled, last)
	t.good("CL.0", t.counted("", smuggled), t.read(smuggled))
	t.good("a body that looks chunked", t.counted("", chunk), t.read(chunk))
	t.good("a chunk with a request", t.chunked(chunk), t.read(smuggled))
	t.good("a chunk with the last chunk", t.chunked("5\r\n0\r\n\r\n\r\n"+last), t.read(last))
	t.good("two requests at once", t.get("")+t.counted("", "hello"), t.got(), t.read("hello"))
	t.good("a length, then chunks", t.counted("", "hello")+t.chunked("1\r\na\r\n"+last), t.read("hello"), t.read("a"))
	t.answered(400, "0.CL: GET with a body", t.get(fmt.Sprintf("Content-Length: %d\r\n", len(smuggled)))+smuggled, Message{"GET", t.target, smuggled})
	t.answered(400, "GET with chunks", t.get("Transfer-Encoding: chunked\r\n")+chunk, Message{"GET", t.target, smuggled})
	t.answered(400, "GET with an empty chunked body", t.get("Transfer-Encoding: chunked\r\n")+last, t.got())
	malformed := t.counted("", "hello") + t.post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", last)
	t.requests = append(t.requests, Request{Name: "a valid request before CL.TE", Bytes: malformed, Messages: []Message{t.read("hello")}, Status: 200, Fault: InHead})
}
