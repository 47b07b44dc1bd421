// Package jsonlimit bounds the size of a JSON document before a decoder parses it. A decoder needs more
// memory than the document has bytes, because each value, name and level costs memory. The package does
// not check the syntax, because the decoder does.
package jsonlimit

import "errors"

const (
	// Depth is the maximum nesting of arrays and objects. An introspection response with resource
	// roles has four levels.
	Depth = 32
	// Values is the maximum number of members and elements in the document. A key set of 100 keys, each
	// with 12 members and a chain of 10 certificates, has 100 × (12 + 10) = 2,200. A decoder takes
	// about 100 bytes for each value, which is 400 KiB for 4,096.
	Values = 4096
)

// ErrTooComplex is returned for a document above Depth or Values.
var ErrTooComplex = errors.New("the JSON has more than 32 levels or 4,096 values")

// Check returns ErrTooComplex if document exceeds Depth or Values. It does not allocate. A
// document that is not JSON may pass.
func Check(document []byte) error {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(document); i++ {
		c := document[i]
		switch {
		case quoted && c == '\\':
			i++ // an escaped character does not end the string
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
