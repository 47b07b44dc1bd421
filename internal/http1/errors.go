package http1

import "net/http"

// An Error says why bytes are not a valid message. The texts are fixed and quote nothing of the message.
type Error string

// Error returns the text.
func (e Error) Error() string { return string(e) }

// Status returns the status of the response to a request with the error.
func (e Error) Status() int {
	switch e { //nolint:exhaustive // the other errors mean a malformed message
	case ErrHeadSize, ErrFields:
		return http.StatusRequestHeaderFieldsTooLarge
	case ErrExpectation:
		return http.StatusExpectationFailed
	default:
		return http.StatusBadRequest
	}
}

// The errors.
const (
	ErrEmptyLines       Error = "too many empty lines before the request line"
	ErrRequestLine      Error = "malformed request line"
	ErrStatusLine       Error = "malformed status line"
	ErrVersion          Error = "the version is neither HTTP/1.1 nor HTTP/1.0"
	ErrLineEnd          Error = "a line does not end in CR LF"
	ErrFieldName        Error = "malformed field name"
	ErrFieldValue       Error = "a control character in a field value"
	ErrFolded           Error = "a folded header line"
	ErrHost             Error = "malformed Host"
	ErrHosts            Error = "not exactly one Host"
	ErrContentLength    Error = "malformed Content-Length"
	ErrContentLengths   Error = "more than one Content-Length"
	ErrTransferEncoding Error = "the Transfer-Encoding is not chunked alone"
	ErrTwoLengths       Error = "Content-Length beside Transfer-Encoding"
	ErrHTTP10           Error = "Transfer-Encoding with HTTP/1.0"
	ErrFields           Error = "too many fields"
	ErrChunkSize        Error = "malformed chunk size"
	ErrChunkExtension   Error = "malformed chunk extension"
	ErrChunkEnd         Error = "a chunk does not end in CR LF"
	ErrTrailer          Error = "a framing field in the trailer"
	ErrChunkOverhead    Error = "much more chunk extensions than content"
	ErrChunkLine        Error = "a chunk-size line is too long"
	ErrTrailerSize      Error = "the trailer is too long"
	ErrHeadSize         Error = "the head is too large"
	ErrTarget           Error = "malformed request target"
	ErrExpectation      Error = "an unknown expectation"
)
