package fastpath

import (
	"bytes"
	"strings"

	"github.com/tallygate/tallygate/internal/http1grammar"
)

// plain returns the lengths of the header and of the body of the request at the start of received. If
// the header is incomplete or not plain, the header's length is 0. A plain request is a request that
// net/http accepts and that all implementations parse alike: each line ends in CR LF, a colon follows
// each field name directly, each field name is a token, each byte is printable ASCII, and at most one
// Content-Length of digits frames the message. A plain request has one Host, and no field about the
// connection except Connection: keep-alive.
func plain(received []byte) (head, length int) {
	head = bytes.Index(received, []byte("\r\n\r\n")) + 4
	if head < 4 || !plainLine(received) {
		return 0, 0
	}
	lines := received[:head-2]
	lines = lines[bytes.IndexByte(lines, '\n')+1:]
	hosts, lengths := 0, 0
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\r')
		if end < 0 || lines[end+1] != '\n' {
			return 0, 0
		}
		line := lines[:end]
		lines = lines[end+2:]
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || !http1grammar.IsToken(line[:colon]) || !http1grammar.IsText(line[colon+1:]) {
			return 0, 0
		}
		name, value := line[:colon], line[colon+1:]
		switch kindOf(name) {
		case ordinary:
		case host:
			hosts++
		case contentLength:
			lengths++
			if length = digits(value); length < 0 {
				return 0, 0
			}
		case connection:
			if !bytes.EqualFold(bytes.Trim(value, " \t"), []byte("keep-alive")) {
				return 0, 0
			}
		case special:
			return 0, 0
		}
	}
	if hosts != 1 || lengths > 1 || length > len(received)-head {
		return 0, 0
	}
	return head, length
}

// methods are the methods of plain requests. CONNECT is not plain, and other methods are rare.
var methods = []string{"GET ", "POST ", "PUT ", "HEAD ", "PATCH ", "DELETE ", "OPTIONS "}

// plainLine reports whether received begins with the request line of a plain request: a method, a
// path and HTTP/1.1.
func plainLine(received []byte) bool {
	end := bytes.IndexByte(received, '\r')
	line, good := bytes.CutSuffix(received[:end], []byte(" HTTP/1.1"))
	if !good || received[end+1] != '\n' {
		return false
	}
	for _, m := range methods {
		if target, good := bytes.CutPrefix(line, []byte(m)); good {
			return len(target) > 0 && target[0] == '/' && http1grammar.IsVisible(target)
		}
	}
	return false
}

// A kind says what a header field means for the connection.
type kind uint8

const (
	ordinary kind = iota
	host
	contentLength
	connection
	special // net/http acts on the field
)

// known lists, in lower case, the fields that are not ordinary.
var known = []struct {
	name string
	kind kind
}{
	{"host", host}, {"content-length", contentLength}, {"connection", connection},
	{"transfer-encoding", special}, {"upgrade", special}, {"expect", special}, {"trailer", special}, {"te", special},
	{"http2-settings", special}, {"proxy-connection", special}, {"keep-alive", special},
}

func kindOf(name []byte) kind {
	for i := range known {
		if k := &known[i]; len(k.name) == len(name) && strings.EqualFold(k.name, string(name)) {
			return k.kind
		}
	}
	return ordinary
}

// digits returns the number in value, or -1 if value is not a number of at most nine digits.
func digits(value []byte) int {
	value = bytes.Trim(value, " \t")
	if len(value) == 0 || len(value) > 9 {
		return -1
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}
