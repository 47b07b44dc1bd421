package http1

import (
	"bytes"
	"math"
)

// MaxFields bounds the fields of a message. Real clients send a few dozen. Without the bound, a head of
// 64 KiB could have 16,000 fields of 4 bytes, each of which takes 32 bytes of memory.
const MaxFields = 512

// maxEmptyLines is the number of empty lines that are skipped before a request line. RFC 9112 section 2.2
// asks servers to skip at least one.
const maxEmptyLines = 2

// A Parser parses the head of one message, which may arrive in pieces. The zero value expects the
// first byte of the message. It is not safe for concurrent use.
type Parser struct {
	next   int     // the offset of the first line that has not been parsed
	begin  int     // the offset of the start line
	line   [3]span // the parts of the start line
	fields []fieldSpan
	head   head
	kind   kind
	empty  int // empty lines before the start line
}

// A span is a part of the received bytes.
type span struct{ from, to int }

// A fieldSpan is the place of a field in the received bytes.
type fieldSpan struct{ name, value span }

// A head has what the fields say about the framing of the message.
type head struct {
	minor          byte
	host           span
	hosts, counted bool
	chunked        bool
	length         int64
}

// Reset prepares p for the next message. The memory for fields is kept.
func (p *Parser) Reset() { *p = Parser{fields: p.fields[:0]} }

// Started reports whether a complete line of the message has been parsed.
func (p *Parser) Started() bool { return p.begin != p.next }

// A kind says whether a Parser parses a request or a response.
type kind uint8

const (
	request kind = iota
	response
)

// ParseRequest parses received, all bytes that have arrived since the end of the last message. n is the
// length of the head with its empty line, or 0 if the head is incomplete; the caller then calls
// ParseRequest again with more bytes. err is an [Error]. r shares no memory with received. Its fields
// are appended to fields[:0].
func (p *Parser) ParseRequest(received []byte, fields []Field) (r Request, n int, err error) {
	if n, err = p.parse(received, request); n == 0 || err != nil {
		return Request{}, 0, err
	}
	h := &p.head
	switch {
	case h.minor == 1 && !h.hosts: // RFC 9112 section 3.2 requires a Host
		return Request{}, 0, ErrHosts
	case h.chunked && h.minor == 0: // RFC 9112 section 6.1: the framing of such a message is faulty
		return Request{}, 0, ErrHTTP10
	}
	text := string(received[p.begin:n])
	r = Request{Method: p.text(text, p.line[0]), Target: p.text(text, p.line[1]), Minor: int(h.minor), Host: p.text(text, h.host)}
	r.Fields, r.Length = p.list(text, fields), h.length
	if h.chunked {
		r.Length = Chunked
	}
	return r, n, nil
}

// ParseResponse parses received, all bytes that have arrived since the end of the last message. See
// [Parser.ParseRequest].
func (p *Parser) ParseResponse(received []byte, fields []Field) (r Response, n int, err error) {
	if n, err = p.parse(received, response); n == 0 || err != nil {
		return Response{}, 0, err
	}
	h := &p.head
	if h.chunked && h.minor == 0 {
		return Response{}, 0, ErrHTTP10
	}
	text := string(received[p.begin:n])
	status := received[p.line[1].from:p.line[1].to]
	r = Response{Status: 100*int(status[0]-'0') + 10*int(status[1]-'0') + int(status[2]-'0'), Minor: int(h.minor)}
	r.Fields = p.list(text, fields)
	switch {
	case h.chunked:
		r.Length = Chunked
	case h.counted:
		r.Length = h.length
	default:
		r.Length = UntilClose
	}
	return r, n, nil
}

func (p *Parser) text(text string, s span) string { return text[s.from-p.begin : s.to-p.begin] }

func (p *Parser) list(text string, fields []Field) []Field {
	fields = fields[:0]
	for i := range p.fields {
		f := &p.fields[i]
		fields = append(fields, Field{p.text(text, f.name), p.text(text, f.value)})
	}
	return fields
}

// parse parses each complete line that has arrived, and returns the length of the head if the head is
// complete.
func (p *Parser) parse(received []byte, k kind) (n int, err error) {
	p.kind = k
	for {
		rest := received[p.next:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return 0, p.incomplete(rest)
		}
		if end == 0 || rest[end-1] != '\r' {
			return 0, ErrLineEnd
		}
		from := p.next
		to := from + end - 1
		p.next = from + end + 1
		switch {
		case from > p.begin && from == to:
			if p.head.chunked && p.head.counted {
				return 0, ErrTwoLengths
			}
			return p.next, nil
		case from > p.begin:
			err = p.field(received, from, to)
		case from < to && k == request:
			err = p.requestLine(received, from, to)
		case from < to:
			err = p.statusLine(received, from, to)
		case k == response || p.empty == maxEmptyLines:
			return 0, ErrEmptyLines
		default:
			p.empty++
			p.begin = p.next
		}
		if err != nil {
			return 0, err
		}
	}
}

// incomplete refuses the start of a line in which a CR is followed by another byte than LF.
func (p *Parser) incomplete(line []byte) error {
	if cr := bytes.IndexByte(line, '\r'); cr >= 0 && cr < len(line)-1 {
		return ErrLineEnd
	}
	return nil
}

const version = "HTTP/1."

// requestLine parses the request line (RFC 9112 section 3).
func (p *Parser) requestLine(b []byte, from, to int) error {
	line := b[from:to]
	method := bytes.IndexByte(line, ' ')
	if method < 1 || !IsToken(line[:method]) {
		return ErrRequestLine
	}
	target := bytes.IndexByte(line[method+1:], ' ')
	if target < 1 || !all(line[method+1:method+1+target], inTarget) {
		return ErrRequestLine
	}
	after := method + target + 2
	p.line[0] = span{from, from + method}
	p.line[1] = span{from + method + 1, from + after - 1}
	return p.version(line[after:])
}

func (p *Parser) version(b []byte) error {
	if len(b) != len(version)+1 || string(b[:len(version)]) != version || b[len(version)] != '0' && b[len(version)] != '1' {
		return ErrVersion
	}
	p.head.minor = b[len(version)] - '0'
	return nil
}

// statusLine parses the status line (RFC 9112 section 4). Many servers omit the space before an empty
// reason, so the space may be absent.
func (p *Parser) statusLine(b []byte, from, to int) error {
	line := b[from:to]
	const code = len(version) + 2 // the offset of the status code
	if len(line) < code+3 || line[code-1] != ' ' || len(line) > code+3 && line[code+3] != ' ' {
		return ErrStatusLine
	}
	status, reason := line[code:code+3], line[code+3:]
	if status[0] < '1' || status[0] > '9' || !isDigit(status[1]) || !isDigit(status[2]) || !all(reason, inValue) {
		return ErrStatusLine
	}
	p.line[1] = span{from + code, from + code + 3}
	return p.version(line[:code-1])
}

// field parses a field line of the head.
func (p *Parser) field(b []byte, from, to int) error {
	line := b[from:to]
	name, value, err := splitField(line)
	if err != nil {
		return err
	}
	if len(p.fields) == MaxFields {
		return ErrFields
	}
	// The capacity of value reaches as far as the capacity of line.
	first := from + cap(line) - cap(value)
	f := fieldSpan{span{from, from + len(name)}, span{first, first + len(value)}}
	p.fields = append(p.fields, f)
	return p.frame(name, value, f.value)
}

// splitField splits a field line without its end (RFC 9112 section 5). name and value are parts of line.
func splitField(line []byte) (name, value []byte, err error) {
	if isSpace(line[0]) {
		return nil, nil, ErrFolded
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || !IsToken(line[:colon]) {
		return nil, nil, ErrFieldName
	}
	first, last := colon+1, len(line)
	for first < last && isSpace(line[first]) {
		first++
	}
	for first < last && isSpace(line[last-1]) {
		last--
	}
	if value = line[first:last]; !all(value, inValue) {
		return nil, nil, ErrFieldValue
	}
	return line[:colon], value, nil
}

// frame handles the fields that frame the message or name the host.
func (p *Parser) frame(name, value []byte, at span) error {
	h := &p.head
	switch len(name) {
	case len("Host"):
		if !equalFold(name, "host") || p.kind != request {
			return nil
		}
		if h.hosts {
			return ErrHosts
		}
		if !all(value, inHost) {
			return ErrHost
		}
		h.hosts, h.host = true, at
	case len("Content-Length"):
		if !equalFold(name, "content-length") {
			return nil
		}
		if h.counted {
			return ErrContentLengths
		}
		length, good := number(value)
		if !good {
			return ErrContentLength
		}
		h.counted, h.length = true, length
	case len("Transfer-Encoding"):
		if !equalFold(name, "transfer-encoding") {
			return nil
		}
		if h.chunked || !equalFold(value, "chunked") {
			return ErrTransferEncoding
		}
		h.chunked = true
	}
	return nil
}

// isFraming reports whether name is the name of a field that RFC 9110 section 6.5.1 forbids in a
// trailer because it frames or routes the message.
func isFraming(name []byte) bool {
	return equalFold(name, "host") || equalFold(name, "content-length") || equalFold(name, "transfer-encoding")
}

// number returns the number in value, which must have digits only.
func number(value []byte) (n int64, good bool) {
	for _, c := range value {
		digit := int64(c - '0')
		if !isDigit(c) || n > (math.MaxInt64-digit)/10 {
			return 0, false
		}
		n = 10*n + digit
	}
	return n, len(value) > 0
}

// equalFold reports whether b is folded, a text in lower case, apart from the case of its letters.
func equalFold(b []byte, folded string) bool {
	if len(b) != len(folded) {
		return false
	}
	for i, c := range b {
		if lower(c) != folded[i] {
			return false
		}
	}
	return true
}
