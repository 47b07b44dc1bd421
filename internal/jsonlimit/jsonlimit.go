// Package jsonlimit bounds JSON before it is parsed: a decoder makes many bytes of few, for
// each value that it keeps, each name that it compares and each level that it descends. In
// goes a document, out comes whether it is small enough. That it is JSON is for the decoder
// to say.
package jsonlimit

import "errors"

const (
	// Depth is how deep arrays and objects may lie in one another. An introspection answer
	// with resource roles has four levels.
	Depth = 32
	// Values is how many members and elements there may be in all. A key set of 100 keys
	// with 12 members and a chain of 10 certificates each has 2,200; a decoder takes some
	// 100 bytes for each, which is 400 KiB for 4,096.
	Values = 4096
)

// ErrTooComplex says that a document has more levels or values than that.
var ErrTooComplex = errors.New("the JSON has more than 32 levels or 4,096 values")

// Check returns ErrTooComplex unless document stays within Depth and Values. It allocates
// nothing. What is no JSON may pass.
func Check(document []byte) error {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(document); i++ {
		c := document[i]
		switch {
		case quoted && c == '\\':
			i++ // whatever comes next ends no string
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			values++
		case c == '}' || c == ']':
			depth--
		case c == ',':
			values++
		}
		if depth > Depth || values > Values {
			return ErrTooComplex
		}
	}
	return nil
}
