package upstream

import (
	"bufio"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/internal/http1"
)

// Errors of requests that are not sent, because the server could read them as other requests.
var (
	errRequestLine = errors.New("the method, the target or the host of the request is malformed")
	errField       = errors.New("a field of the request is malformed, or concerns the connection")
	errLength      = errors.New("the request has a length without a body")
)

// check checks what is written into the head of r. The checks of the client's request make a fault here
// impossible; a fault would be a way to smuggle a request.
func (r *Request) check() error {
	if !http1.IsToken(r.Method) || r.Method == "" || r.Method == http.MethodConnect ||
		!http1.IsTarget(r.Target) || r.Target == "" || !http1.IsValue(r.Host) || !http1.IsValue(r.Upgrade) {
		return errRequestLine
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.Name == "" || !http1.IsToken(f.Name) || !http1.IsValue(f.Value) || http1.IsHopByHop(f.Name) || strings.EqualFold(f.Name, "Host") {
			return errField
		}
	}
	if r.Body == nil && r.Length != 0 {
		return errLength
	}
	return nil
}

func (r *Request) closeBody() {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// writeHead writes the head of r. length is the length of the body, or http1.Chunked. After a failed write,
// out returns the error from every later call, so the caller checks only the error of a later Flush.
func (r *Request) writeHead(out *bufio.Writer, length int64) {
	for _, part := range [...]string{r.Method, " ", r.Target, " HTTP/1.1\r\nHost: ", r.Host, "\r\n"} {
		_, _ = out.WriteString(part)
	}
	http1.WriteFields(out, r.Fields)
	r.writeConnection(out)
	switch {
	case length == http1.Chunked:
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
	case length > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch: // RFC 9110 section 8.6
		_, _ = out.WriteString("Content-Length: ")
		_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), length, 10))
		_, _ = out.WriteString("\r\n")
	}
	_, _ = out.WriteString("\r\n")
}

// writeConnection writes Connection and the fields that Connection must name.
func (r *Request) writeConnection(out *bufio.Writer) {
	if !r.Trailers && r.Upgrade == "" && !r.Close {
		return
	}
	var options []string
	if r.Close {
		options = append(options, "close")
	}
	if r.Trailers {
		options = append(options, "TE")
		_, _ = out.WriteString("TE: trailers\r\n")
	}
	if r.Upgrade != "" {
		options = append(options, "Upgrade")
		_, _ = out.WriteString("Upgrade: " + r.Upgrade + "\r\n")
	}
	_, _ = out.WriteString("Connection: " + strings.Join(options, ", ") + "\r\n")
}
