package http1

import (
	"bufio"
	"errors"
	"io"
)

// A received request has been read with its body.
type received struct {
	Request
	Body    string
	Trailer []Field
	Begin   int // the offset of the request line
	End     int // the offset of the byte after the body
}

// pieces is a connection on which text arrives n bytes at a time.
type pieces struct {
	text string
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b, p.text[:min(p.n, len(p.text))])
	p.text = p.text[n:]
	return n, nil
}

// readRequests reads the requests in text, which arrives n bytes at a time. seen is the number of bytes that
// had arrived when reading ended. err is io.EOF if text ends between two requests and io.ErrUnexpectedEOF if it
// ends in a request.
func readRequests(text string, n int) (requests []received, seen int, err error) {
	from := &pieces{text, n}
	in := bufio.NewReaderSize(from, 1<<16)
	var p Parser
	var body Body
	for {
		begin := len(text) - len(from.text) - in.Buffered()
		p.Reset()
		r, err := readRequest(&p, in)
		if err != nil {
			return requests, len(text) - len(from.text), err
		}
		begin += p.begin
		body.Reset(in, r.Length)
		content, err := io.ReadAll(&body)
		if err != nil {
			return requests, len(text) - len(from.text), err
		}
		requests = append(requests, received{r, string(content), body.Trailer(), begin, len(text) - len(from.text) - in.Buffered()})
	}
}

func readRequest(p *Parser, in *bufio.Reader) (Request, error) {
	for {
		arrived, _ := in.Peek(in.Buffered())
		r, n, err := p.ParseRequest(arrived, nil)
		if err != nil {
			return r, err
		}
		if n > 0 {
			_, err = in.Discard(n)
			return r, err
		}
		if err := more(in, p.begin != p.next); err != nil {
			return r, err
		}
	}
}

// more waits for another byte after the buffered bytes.
func more(in *bufio.Reader, started bool) error {
	_, err := in.Peek(in.Buffered() + 1)
	if errors.Is(err, io.EOF) && (started || in.Buffered() > 0) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readResponse reads a response to a request with method and its body from text, which arrives n bytes at a
// time. end is the offset of the byte after the body.
func readResponse(text, method string, n int) (r Response, body string, trailer []Field, end int, err error) {
	from := &pieces{text, n}
	in := bufio.NewReaderSize(from, 1<<16)
	var p Parser
	for {
		arrived, _ := in.Peek(in.Buffered())
		r, n, err := p.ParseResponse(arrived, nil)
		if err == nil && n == 0 {
			err = more(in, true)
		}
		if err != nil {
			return r, "", nil, 0, err
		}
		if n == 0 {
			continue
		}
		_, _ = in.Discard(n)
		var b Body
		b.Reset(in, r.BodyLength(method))
		content, err := io.ReadAll(&b)
		return r, string(content), b.Trailer(), len(text) - len(from.text) - in.Buffered(), err
	}
}
