package http1grammar

// mostSizeDigits is how many hexadecimal digits a chunk's size may have: 16 digits are 64 bits.
const mostSizeDigits = 16

// body handles a byte of the chunked coding (RFC 9112 section 7.1). The bytes of the content are
// skipped by pass.
func (s *Scanner) body(c byte) error {
	switch s.state { //nolint:exhaustive // body is called only in these states
	case sizeStart, size:
		return s.sizeByte(c)
	case sizeLF:
		if c != '\n' {
			return ErrLineEnd
		}
		s.state = chunk
		if s.left == 0 {
			s.state, s.trailer = fieldStart, true
		}
	case chunkCR:
		return s.expect(c == '\r', chunkLF, ErrChunkEnd)
	case chunkLF:
		s.digits, s.left = 0, 0
		return s.expect(c == '\n', sizeStart, ErrChunkEnd)
	default:
		return s.extensionByte(c)
	}
	return nil
}

func (s *Scanner) sizeByte(c byte) error {
	if digit, good := hexadecimal(c); good {
		s.digits++
		s.left = s.left<<4 | uint64(digit)
		return s.expect(s.digits <= mostSizeDigits, size, ErrChunkSize)
	}
	if s.state == sizeStart {
		return ErrChunkSize
	}
	if c == '\n' {
		return ErrLineEnd
	}
	return s.endExtension(c, ErrChunkSize)
}

// extensionByte handles a byte of the chunk extensions (RFC 9112 section 7.1.1). Each extension has
// a name and may have a token or a quoted string as its value.
func (s *Scanner) extensionByte(c byte) error {
	switch s.state { //nolint:exhaustive // extensionByte is called only in these states
	case extensionSpace:
		if !isSpace(c) {
			return s.expect(c == ';', extensionNameStart, ErrChunkExtension)
		}
	case extensionNameStart:
		if !isSpace(c) {
			return s.expect(is(c, inToken), extensionName, ErrChunkExtension)
		}
	case extensionName, extensionNameSpace:
		switch {
		case s.state == extensionName && is(c, inToken):
		case c == '=':
			s.state = extensionValueStart
		case isSpace(c):
			s.state = extensionNameSpace
		case s.state == extensionName || c == ';':
			return s.endExtension(c, ErrChunkExtension)
		default:
			return ErrChunkExtension
		}
	case extensionValueStart:
		switch {
		case isSpace(c):
		case c == '"':
			s.state = extensionQuoted
		default:
			return s.expect(is(c, inToken), extensionToken, ErrChunkExtension)
		}
	case extensionToken:
		if !is(c, inToken) {
			return s.endExtension(c, ErrChunkExtension)
		}
	case extensionQuoted:
		switch c {
		case '"':
			s.state = extensionEnd
		case '\\':
			s.state = extensionEscaped
		default:
			return s.expect(is(c, inValue), extensionQuoted, ErrChunkExtension)
		}
	case extensionEscaped:
		return s.expect(is(c, inValue), extensionQuoted, ErrChunkExtension)
	case extensionEnd:
		return s.endExtension(c, ErrChunkExtension)
	}
	return nil
}

// endExtension handles the byte after a chunk size or after a complete extension.
func (s *Scanner) endExtension(c byte, e Error) error {
	switch {
	case c == '\r':
		s.state = sizeLF
	case c == ';':
		s.state = extensionNameStart
	case isSpace(c):
		s.state = extensionSpace
	default:
		return e
	}
	return nil
}

func hexadecimal(c byte) (digit byte, good bool) {
	switch c = lower(c); {
	case isDigit(c):
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
