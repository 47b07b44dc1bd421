package http1grammar

import "math"

const (
	versionBegins    = "HTTP/1."
	codingChunked    = "chunked"
	host             = "host"
	contentLength    = "content-length"
	transferEncoding = "transfer-encoding" // the longest of these names
)

// A field says what a header field means for the framing of the message.
type field uint8

const (
	ordinaryField field = iota
	hostField
	lengthField
	codingField
)

// A place is the position of a [Scanner] in a field value whose grammar depends on spaces.
type place uint8

const (
	beforeValue place = iota
	inValueText
	behindValue
)

// line handles a byte of the request line, or of an empty line before it (RFC 9112 sections 2.2 and
// 3).
func (s *Scanner) line(c byte) error {
	switch s.state { //nolint:exhaustive // line is called only in these states
	case start:
		if c == '\r' && s.empty < MostEmptyLines {
			s.state = emptyLF
			return nil
		}
		if c == '\r' {
			return ErrEmptyLines
		}
		return s.expect(is(c, inToken), method, ErrRequestLine)
	case emptyLF:
		s.empty++
		return s.expect(c == '\n', start, ErrLineEnd)
	case method:
		if c != ' ' {
			return s.expect(is(c, inToken), method, ErrRequestLine)
		}
		s.state, s.matched = target, 0
	case target:
		if c == ' ' && s.matched > 0 {
			s.state, s.matched = version, 0
			return nil
		}
		s.matched = 1
		return s.expect(is(c, inTarget), target, ErrRequestLine)
	case version:
		return s.version(c)
	case versionLF:
		return s.expect(c == '\n', fieldStart, ErrLineEnd)
	}
	return nil
}

func (s *Scanner) version(c byte) error {
	at := int(s.matched)
	s.matched++
	switch {
	case at < len(versionBegins):
		return s.expect(c == versionBegins[at], version, ErrVersion)
	case at == len(versionBegins):
		s.minor = c
		return s.expect(c == '0' || c == '1', version, ErrVersion)
	default:
		return s.expect(c == '\r', versionLF, ErrRequestLine)
	}
}

// fields handles a byte of the header or of the trailer (RFC 9112 section 5).
func (s *Scanner) fields(c byte) error {
	switch s.state { //nolint:exhaustive // fields is called only in these states
	case fieldStart:
		switch {
		case c == '\r':
			s.state = headLF
			return nil
		case isSpace(c):
			return ErrFolded
		}
		s.named = 0
		return s.nameByte(c)
	case fieldName:
		if c != ':' {
			return s.nameByte(c)
		}
		s.state, s.place = fieldValue, beforeValue
		return s.endName()
	case fieldValue:
		return s.valueByte(c)
	case fieldLF:
		return s.expect(c == '\n', fieldStart, ErrLineEnd)
	case headLF:
		if c != '\n' {
			return ErrLineEnd
		}
		return s.endFields()
	}
	return nil
}

func (s *Scanner) nameByte(c byte) error {
	if s.named < uint8(len(s.name)) {
		s.name[s.named] = lower(c)
		s.named++
	} else {
		s.named = uint8(len(s.name)) + 1
	}
	return s.expect(is(c, inToken), fieldName, ErrFieldName)
}

// endName sets the kind of the field once its name is complete. A second framing field of the same kind
// is an error.
func (s *Scanner) endName() error {
	s.field = ordinaryField
	if s.named > uint8(len(s.name)) {
		return nil
	}
	switch string(s.name[:s.named]) {
	case host:
		s.field = hostField
	case contentLength:
		s.field = lengthField
	case transferEncoding:
		s.field = codingField
	}
	switch {
	case s.field == ordinaryField:
		return nil
	case s.trailer: // RFC 9110 section 6.5.1 forbids framing fields in a trailer
		return ErrTrailer
	case s.field == hostField && s.hosts:
		return ErrHosts
	case s.field == lengthField && s.measured:
		return ErrContentLengths
	case s.field == codingField && s.chunked:
		return ErrTransferEncoding
	}
	s.hosts = s.hosts || s.field == hostField
	s.measured = s.measured || s.field == lengthField
	s.chunked = s.chunked || s.field == codingField
	s.matched = 0
	return nil
}

func (s *Scanner) valueByte(c byte) error {
	switch {
	case c == '\r':
		s.state = fieldLF
		return s.endValue()
	case c == '\n':
		return ErrLineEnd
	case !is(c, inValue):
		return ErrFieldValue
	case s.field == ordinaryField:
		return nil
	case isSpace(c):
		if s.place == inValueText {
			s.place = behindValue
		}
		return nil
	case s.place == behindValue:
		return s.badValue()
	}
	s.place = inValueText
	return s.framingByte(c)
}

// framingByte handles a byte of a value that frames the request or names the host.
func (s *Scanner) framingByte(c byte) error {
	good := false
	switch s.field {
	case hostField:
		good = is(c, inHost)
	case lengthField:
		digit := uint64(c - '0')
		good = isDigit(c) && s.left <= (math.MaxInt64-digit)/10
		s.left = 10*s.left + digit
	case codingField:
		good = int(s.matched) < len(codingChunked) && lower(c) == codingChunked[s.matched]
		s.matched++
	case ordinaryField:
		good = true
	}
	if !good {
		return s.badValue()
	}
	return nil
}

func (s *Scanner) endValue() error {
	if s.field == lengthField && s.place == beforeValue || s.field == codingField && int(s.matched) != len(codingChunked) {
		return s.badValue()
	}
	return nil
}

func (s *Scanner) badValue() error {
	switch s.field {
	case lengthField:
		return ErrContentLength
	case codingField:
		return ErrTransferEncoding
	case hostField, ordinaryField:
	}
	return ErrHost
}

// endFields starts the body (RFC 9112 section 6.3), or ends the request after its trailer.
func (s *Scanner) endFields() error {
	switch {
	case s.trailer:
		s.state = done
	case s.minor == '1' && !s.hosts: // RFC 9112 section 3.2 requires a Host
		return ErrHosts
	case s.chunked && s.measured:
		return ErrTwoLengths
	case s.chunked && s.minor == '0': // RFC 9112 section 6.1: the framing of such a message is faulty
		return ErrHTTP10
	case s.chunked:
		s.state, s.digits, s.left = sizeStart, 0, 0
	case s.left > 0:
		s.state = counted
	default:
		s.state = done
	}
	return nil
}
