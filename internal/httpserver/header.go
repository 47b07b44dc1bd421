package httpserver

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
)

// mapFields returns the fields in the map of the handler, sorted by their names, without the fields that the
// response writes itself. length is the Content-Length in the map, or UntilClose.
func (w *response) mapFields() (fields []http1.Field, length int64) {
	length = http1.UntilClose
	for _, name := range slices.Sorted(maps.Keys(w.header)) {
		for _, value := range w.header[name] {
			checkField(name, value)
			switch name {
			case "Content-Length":
				if n, err := strconv.ParseUint(value, 10, 63); err == nil {
					length = int64(n)
				}
				continue
			case "Connection":
				w.mustClose = w.mustClose || http1.ListHasToken(value, "close")
				continue
			case "Transfer-Encoding", "Keep-Alive", "Trailer": // SetTrailer sets trailers
				continue
			}
			fields = append(fields, http1.Field{Name: name, Value: value})
		}
	}
	return fields, length
}

// checkField panics if a field could break the header of a response. The texts quote nothing, because a
// client may have sent the field.
func checkField(name, value string) {
	if name == "" || !http1.IsToken(name) || !http1.IsValue(value) {
		panic("a handler set an invalid field")
	}
}

// writeStatus writes the status line.
func writeStatus(out *bufio.Writer, status int) {
	if status == http.StatusOK {
		_, _ = out.WriteString("HTTP/1.1 200 OK\r\n")
		return
	}
	text := http.StatusText(status)
	if text == "" {
		text = "status code " + strconv.Itoa(status)
	}
	_, _ = fmt.Fprintf(out, "HTTP/1.1 %03d %s\r\n", status, text)
}

func writeLength(out *bufio.Writer, length int64) {
	_, _ = out.WriteString("Content-Length: ")
	_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), length, 10))
	_, _ = out.WriteString("\r\n")
}

// date returns the value of Date for now. The session keeps the text for the rest of the second.
func (s *session) date() []byte {
	now := time.Now()
	if second := now.Unix(); second != s.dateSecond || len(s.dateText) == 0 {
		s.dateSecond, s.dateText = second, now.UTC().AppendFormat(s.dateText[:0], http.TimeFormat)
	}
	return s.dateText
}
