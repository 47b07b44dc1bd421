package http1

import (
	"bytes"
	"math"

	"github.com/tallygate/tallygate/internal/ascii"
)

// A framing has the facts about the body and the host in the fields of a head.
type framing struct {
	hasHost bool
	host    span
	counted bool // there is a Content-Length
	length  int64
	chunked bool
}

// check refuses a head whose fields announce two framings, or a framing that its version does not have.
func (f *framing) check(minor byte) error {
	switch {
	case f.chunked && f.counted: // RFC 9112 section 6.3: such a message may be an attack
		return ErrTwoLengths
	case f.chunked && minor == 0: // RFC 9112 section 6.1: the framing of such a message is faulty
		return ErrHTTP10
	}
	return nil
}

// field parses a field line of the head.
func (p *Parser) field(received []byte, at span) error {
	line := received[at.from:at.to]
	name, value, err := splitField(line)
	if err != nil {
		return err
	}
	if len(p.fields) == MaxFields {
		return ErrFields
	}
	f := fieldSpan{span{at.from, at.from + name}, span{at.from + value.from, at.from + value.to}}
	p.fields = append(p.fields, f)
	return p.frame(line[:name], line[value.from:value.to], f.value)
}

// splitField returns the length of the name and the place of the value in a field line without its end
// (RFC 9112 section 5). The line is not empty.
func splitField(line []byte) (name int, value span, err error) {
	if isSpace(line[0]) {
		return 0, span{}, ErrFolded
	}
	name = prefix(line, inToken)
	if name == 0 || name == len(line) || line[name] != ':' {
		return 0, span{}, ErrFieldName
	}
	from, to := name+1, len(line)
	for from < to && isSpace(line[from]) {
		from++
	}
	for from < to && isSpace(line[to-1]) {
		to--
	}
	if valuePrefix(line[from:to]) < to-from {
		return 0, span{}, ErrFieldValue
	}
	return name, span{from, to}, nil
}

// frame handles the fields that frame the message or name the host.
func (p *Parser) frame(name, value []byte, at span) error {
	switch len(name) {
	case len("Host"):
		if equalFold(name, "host") && p.kind == request {
			return p.framing.addHost(value, at)
		}
	case len("Trailer"):
		if equalFold(name, "trailer") && announcesFraming(value) {
			return ErrTrailer
		}
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			return p.framing.addLength(value)
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			return p.framing.addCoding(value)
		}
	}
	return nil
}

func (f *framing) addHost(value []byte, at span) error {
	switch {
	case f.hasHost:
		return ErrHosts
	case !all(value, inHost):
		return ErrHost
	}
	f.hasHost, f.host = true, at
	return nil
}

// addLength accepts only digits. RFC 9112 section 6.3 would let a recipient accept a list of equal
// lengths.
func (f *framing) addLength(value []byte) error {
	if f.counted {
		return ErrContentLengths
	}
	for _, c := range value {
		digit := int64(c - '0')
		if !isDigit(c) || f.length > (math.MaxInt64-digit)/10 {
			return ErrContentLength
		}
		f.length = 10*f.length + digit
	}
	if len(value) == 0 {
		return ErrContentLength
	}
	f.counted = true
	return nil
}

// addCoding accepts only chunked, once. The gate implements no other transfer coding, and the last transfer
// coding of a request must be chunked (RFC 9112 section 6.1).
func (f *framing) addCoding(value []byte) error {
	if f.chunked || !equalFold(value, "chunked") {
		return ErrTransferEncoding
	}
	f.chunked = true
	return nil
}

// isFraming reports whether a field with this name frames or routes a message, so that RFC 9110 section
// 6.5.1 forbids it in a trailer.
func isFraming(name []byte) bool {
	return equalFold(name, "host") || equalFold(name, "content-length") || equalFold(name, "transfer-encoding") || equalFold(name, "trailer")
}

// announcesFraming reports whether value, of the field Trailer, names a field that must not be in a
// trailer.
func announcesFraming(value []byte) bool {
	for name := range bytes.SplitSeq(value, []byte(",")) {
		if isFraming(bytes.Trim(name, " \t")) {
			return true
		}
	}
	return false
}

// equalFold reports whether b equals folded, a text in lower case. The case of ASCII letters in b makes no
// difference.
func equalFold(b []byte, folded string) bool {
	if len(b) != len(folded) {
		return false
	}
	for i, c := range b {
		if ascii.Lower(c) != folded[i] {
			return false
		}
	}
	return true
}
