package fastpath

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// omitted has the names of fields that the handler set and that are not sent as the handler set them.
type omitted map[string]bool

func (o *omitted) add(name string) {
	if *o == nil {
		*o = make(omitted)
	}
	(*o)[name] = true
}

// WriteHeader sends an informational answer, or buffers the start of the final header. The method begin
// later adds the fields that depend on the body.
func (a *answer) WriteHeader(status int) {
	switch {
	case a.status != 0:
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid status %d", status))
	case status < 200 && status != http.StatusSwitchingProtocols:
		a.inform(status)
		return
	}
	a.status = status
	var not omitted
	a.findTrailers(&not)
	a.frame(&not)
	a.last = a.last || a.header.Get("Connection") == "close"
	if a.conn.server.closed.Load() && !a.last {
		not.add("Connection")
		a.last, a.closing = true, true
	}
	out := a.conn.out
	a.line(status)
	_ = a.header.WriteSubset(out, not)
	if _, dated := a.header["Date"]; !dated {
		_, _ = out.WriteString("Date: ")
		_, _ = out.Write(time.Now().UTC().AppendFormat(out.AvailableBuffer(), http.TimeFormat))
		_, _ = out.WriteString("\r\n")
	}
}

// ofBodies are fields that describe a body, which an informational answer does not have.
var ofBodies = omitted{"Content-Length": true, "Transfer-Encoding": true}

// inform sends an informational answer.
func (a *answer) inform(status int) {
	out := a.conn.out
	a.line(status)
	_ = a.header.WriteSubset(out, ofBodies)
	_, _ = out.WriteString("\r\n")
	_ = out.Flush()
	a.conn.sent = false
}

// findTrailers finds the trailers that the header announces. It adds the fields that are sent only as
// trailers to the set not.
func (a *answer) findTrailers(not *omitted) {
	for name := range a.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			not.add(name)
			a.trailing = true
		}
	}
	for _, names := range a.header["Trailer"] {
		a.trailing = true
		for name := range strings.SplitSeq(names, ",") {
			if name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)); httpguts.ValidTrailerHeader(name) {
				a.trailers = append(a.trailers, name)
			}
		}
	}
}

// frame decides how the answer is framed, as far as the header determines the framing. It adds the
// fields that begin writes, and the fields that the answer must not have, to the set not.
func (a *answer) frame(not *omitted) {
	encoded := a.header["Transfer-Encoding"] != nil
	if told := a.header.Get("Content-Length"); told != "" {
		n, err := strconv.ParseInt(told, 10, 64)
		if err == nil && n >= 0 && !encoded {
			a.length = n
		} else {
			not.add("Content-Length")
		}
	}
	if encoded { // begin writes the Transfer-Encoding
		not.add("Transfer-Encoding")
	}
	if !hasBody(a.status) {
		a.framing = none
		not.add("Content-Length")
		if a.status == http.StatusNotModified {
			not.add("Content-Type")
		}
		return
	}
	_, typed := a.header["Content-Type"] // a handler sets a Content-Type without a value to prevent detection
	a.sniffed = !encoded && !typed && a.header.Get("Content-Encoding") == ""
	a.counts = !encoded && !a.trailing && a.length == unknown
	switch {
	case a.request.Method == http.MethodHead:
		a.framing = none
	case a.length != unknown:
		a.framing = counted
	}
}

// line writes the status line.
func (a *answer) line(status int) {
	out := a.conn.out
	_, _ = out.WriteString("HTTP/1.1 ")
	if text := http.StatusText(status); text != "" {
		_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), int64(status), 10))
		_ = out.WriteByte(' ')
		_, _ = out.WriteString(text)
	} else {
		_, _ = fmt.Fprintf(out, "%d status code %d", status, status)
	}
	_, _ = out.WriteString("\r\n")
}

func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
