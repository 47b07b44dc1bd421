// Package pemfile reads the PEM files (RFC 7468) that settings name: certificates, private keys and key
// pairs. All settings use this package, so that all are equally strict: a block that encoding/pem would
// silently skip is an error with the file and the line of the block. The functions are safe for
// concurrent use.
package pemfile

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

// A Block is a block of a PEM text.
type Block struct {
	Type     string // label, such as CERTIFICATE
	Bytes    []byte // decoded content, DER for all types read here
	Position string // file:line of the block's first line
}

var (
	begin = []byte("-----BEGIN")
	end   = []byte("-----END")
)

var (
	errMalformed = errors.New("the PEM block is cut short or malformed")
	errHeaders   = errors.New("the PEM block has headers, which RFC 7468 does not allow")
	errEncrypted = errors.New("the private key is encrypted; store it without a passphrase (openssl pkey -in OLD -out NEW)")
)

// Blocks returns the blocks of text in order. Text between the blocks is allowed (RFC 7468 section 2).
// A border line that belongs to no complete block is an error. name is the file name for errors and
// positions. If name is "", errors and positions have only the line.
func Blocks(name string, text []byte) ([]Block, error) {
	if err := checkMark(name, text); err != nil {
		return nil, err
	}
	if err := checkHeaders(name, text); err != nil {
		return nil, err
	}
	var blocks []Block
	for at := 0; ; {
		first, stray := bytes.Index(text[at:], begin), bytes.Index(text[at:], end)
		switch {
		case first < 0 && stray < 0:
			return blocks, nil
		case first < 0 || stray >= 0 && stray < first:
			return nil, errorAt(name, text[:at+stray], errMalformed)
		}
		at += first
		block, rest := pem.Decode(text[at:])
		read := text[at : len(text)-len(rest)]
		// If Decode skipped a malformed block, read has more than one border line that begins a block.
		if block == nil || bytes.Count(read, begin) != 1 || at > 0 && text[at-1] != '\n' {
			return nil, errorAt(name, text[:at], errMalformed)
		}
		blocks = append(blocks, Block{Type: block.Type, Bytes: block.Bytes, Position: positionOf(name, text[:at])})
		at += len(read)
	}
}

// checkHeaders returns an error if the line after a border has a colon and is therefore a header. It
// must be called before pem.Decode, which would build a map of any number of headers.
func checkHeaders(name string, text []byte) error {
	for at := 0; ; at += len(begin) {
		next := bytes.Index(text[at:], begin)
		if next < 0 {
			return nil
		}
		at += next
		_, rest, _ := bytes.Cut(text[at:], []byte("\n"))
		first, _, _ := bytes.Cut(rest, []byte("\n"))
		switch {
		case !bytes.ContainsRune(first, ':'):
		case bytes.HasPrefix(first, []byte("Proc-Type:")) && bytes.Contains(first, []byte("ENCRYPTED")): // RFC 1421 section 4.6.1.1
			return errorAt(name, text[:at], errEncrypted)
		default:
			return errorAt(name, text[:at], errHeaders)
		}
	}
}

// errorAt returns err with the position at which before ends. before is the text of the file up to the faulty
// line.
func errorAt(name string, before []byte, err error) error {
	return fmt.Errorf("%s: %w", positionOf(name, before), err)
}

// positionOf returns name and the number of the line after before.
func positionOf(name string, before []byte) string {
	line := 1 + bytes.Count(before, []byte("\n"))
	if name == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("%s:%d", name, line)
}
