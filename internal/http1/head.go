package http1

import "bytes"

// MaxFields bounds the fields of a head or trailer. Real clients send a few dozen. Without the bound, a
// head of 64 KiB could have 16,000 fields of 4 bytes, each of which takes 64 bytes of memory.
const MaxFields = 512

// maxEmptyLines is the number of empty lines that are skipped before a request line. RFC 9112 section 2.2
// asks servers to skip at least one.
const maxEmptyLines = 2

// A Parser parses the head of one message, which may arrive in pieces. The zero value expects the
// first byte of the message. It is not safe for concurrent use.
type Parser struct {
	kind    kind
	empty   int // the number of empty lines before the start line
	begin   int // the offset of the start line
	next    int // the offset of the first line that has not been parsed
	scanned int // the offset of the first byte that has not been looked at

	method, target, status span
	minor                  byte
	fields                 []fieldSpan
	framing                framing
}

// A kind says whether a Parser parses a request or a response.
type kind uint8

const (
	request kind = iota
	response
)

// A span is a part of the received bytes.
type span struct{ from, to int }

// A fieldSpan is the place of a field in the received bytes.
type fieldSpan struct{ name, value span }

// Reset prepares p for the next message. The memory for fields is kept.
func (p *Parser) Reset() { *p = Parser{fields: p.fields[:0]} }

// ParseRequest parses received, all bytes that have arrived since the end of the last message. n is the
// length of the head with its empty line and with empty lines before it, or 0 if the head is incomplete;
// the caller then calls ParseRequest again with more bytes. err is an [Error]; p must be reset before it
// is used again.
//
// A malformed line is refused when it is complete, and a control character when it arrives. The result
// does not depend on the pieces in which the head arrives. The caller bounds the size of the head.
//
// r shares no memory with received. Its fields are appended to fields[:0].
func (p *Parser) ParseRequest(received []byte, fields []Field) (r Request, n int, err error) {
	if n, err = p.parse(received, request); n == 0 || err != nil {
		return Request{}, 0, err
	}
	f := &p.framing
	if p.minor == 1 && !f.hasHost { // RFC 9112 section 3.2 requires a Host
		return Request{}, 0, ErrHosts
	}
	if err := f.check(p.minor); err != nil {
		return Request{}, 0, err
	}
	head := string(received[p.begin:n])
	r = Request{Method: p.text(head, p.method), Target: p.text(head, p.target), Minor: int(p.minor), Length: f.length}
	if f.hasHost {
		r.Host = p.text(head, f.host)
	}
	if f.chunked {
		r.Length = Chunked
	}
	if r.Target[0] != '/' {
		if r.Host, err = host(r.Method, r.Target, r.Host); err != nil {
			return Request{}, 0, err
		}
	}
	r.Fields = p.list(head, fields)
	return r, n, nil
}

// ParseResponse parses received, all bytes that have arrived since the end of the last message. See
// [Parser.ParseRequest]. No empty line is skipped.
func (p *Parser) ParseResponse(received []byte, fields []Field) (r Response, n int, err error) {
	if n, err = p.parse(received, response); n == 0 || err != nil {
		return Response{}, 0, err
	}
	f := &p.framing
	if err := f.check(p.minor); err != nil {
		return Response{}, 0, err
	}
	code := received[p.status.from:p.status.to]
	r = Response{Status: 100*int(code[0]-'0') + 10*int(code[1]-'0') + int(code[2]-'0'), Minor: int(p.minor)}
	switch {
	case f.chunked:
		r.Length = Chunked
	case f.counted:
		r.Length = f.length
	default:
		r.Length = UntilClose
	}
	r.Fields = p.list(string(received[p.begin:n]), fields)
	return r, n, nil
}

// text returns the part of head at s.
func (p *Parser) text(head string, s span) string { return head[s.from-p.begin : s.to-p.begin] }

func (p *Parser) list(head string, fields []Field) []Field {
	fields = fields[:0]
	for i := range p.fields {
		f := &p.fields[i]
		fields = append(fields, Field{p.text(head, f.name), p.text(head, f.value)})
	}
	return fields
}

// parse parses each complete line that has arrived, and returns the length of the head if the head is
// complete.
func (p *Parser) parse(received []byte, k kind) (n int, err error) {
	p.kind = k
	for {
		from := p.next
		end := bytes.IndexByte(received[p.scanned:], '\n')
		if end < 0 {
			return 0, p.incomplete(received)
		}
		end += p.scanned
		line := received[from:end]
		if len(line) == 0 || line[len(line)-1] != '\r' {
			return 0, p.refusal(received, span{from, end}, ErrLineEnd)
		}
		line = line[:len(line)-1]
		p.next, p.scanned = end+1, end+1
		switch {
		case len(line) > 0:
			if err := p.line(received, span{from, end - 1}); err != nil {
				return 0, p.refusal(received, span{from, end - 1}, err)
			}
		case from > p.begin:
			return p.next, nil
		case k == response:
			return 0, ErrStatusLine
		case p.empty == maxEmptyLines:
			return 0, ErrEmptyLines
		default:
			p.empty++
			p.begin = p.next
		}
	}
}

// line parses a line that is not empty.
func (p *Parser) line(received []byte, at span) error {
	switch {
	case at.from > p.begin:
		return p.field(received, at)
	case p.kind == request:
		return p.requestLine(received, at)
	}
	return p.statusLine(received, at)
}

// incomplete looks for control characters in the bytes after the last complete line, so that they are
// refused although the line is incomplete. A CR at the end may be the first byte of CR LF.
func (p *Parser) incomplete(received []byte) error {
	last := len(received)
	if last > p.scanned && received[last-1] == '\r' {
		last--
	}
	if valuePrefix(received[p.scanned:last]) < last-p.scanned {
		return p.refusal(received, span{p.next, last}, ErrLineEnd)
	}
	p.scanned = last
	return nil
}

// refusal returns the error of a malformed line. at is the line without its CR LF. If the line contains a
// control character, refusal parses only the bytes up to and including the first control character. No valid
// line contains a control character, so this fails with the same error for a complete and for an incomplete
// line. Without a control character, refusal returns err.
func (p *Parser) refusal(received []byte, at span, err error) error {
	control := at.from + valuePrefix(received[at.from:at.to])
	if control == at.to {
		return err
	}
	if received[control] == '\r' {
		return ErrLineEnd
	}
	if err := p.line(received, span{at.from, control + 1}); err != nil {
		return err
	}
	return ErrLineEnd
}
