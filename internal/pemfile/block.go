// Package pemfile reads the PEM files (RFC 7468) that settings name: certificates, private
// keys and key pairs. Every setting reads its files here, so that all are equally strict: a
// block that encoding/pem would skip without a word is an error, which names the file and
// the line on which the block begins. The package has no state; its functions are safe for
// concurrent use.
package pemfile

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

// A Block is one block of a PEM text.
type Block struct {
	Type  string // the label, such as CERTIFICATE
	Bytes []byte // what the block encodes, DER for every type that is read here
	Place string // name:line, where the block begins
}

var (
	begin = []byte("-----BEGIN")
	end   = []byte("-----END")
)

var (
	errGarbled   = errors.New("the PEM block is cut short or garbled")
	errHeaders   = errors.New("the PEM block has headers, which RFC 7468 does not allow")
	errEncrypted = errors.New("the private key is encrypted; store it without a passphrase")
)

// Blocks returns the blocks of text in their order, none where it holds none. Text around
// the blocks is allowed, as RFC 7468 section 2 has it. Anything that looks like the border
// of a block and belongs to no complete one is an error. name is that of the file, for
// errors and places; "" leaves the line alone.
func Blocks(name string, text []byte) ([]Block, error) {
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
			return nil, fault(name, text[:at+stray], errGarbled)
		}
		at += first
		block, rest := pem.Decode(text[at:])
		read := text[at : len(text)-len(rest)]
		// Decode skips what it cannot read, up to the next block that it can.
		if block == nil || bytes.Count(read, begin) != 1 || at > 0 && text[at-1] != '\n' {
			return nil, fault(name, text[:at], errGarbled)
		}
		blocks = append(blocks, Block{Type: block.Type, Bytes: block.Bytes, Place: place(name, text[:at])})
		at += len(read)
	}
}

// checkHeaders returns an error where the line below a border has a colon, and so is a
// header. It looks before pem.Decode does, which would make a map of as many as there are.
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
			return fault(name, text[:at], errEncrypted)
		default:
			return fault(name, text[:at], errHeaders)
		}
	}
}

// fault returns err with the place that follows before.
func fault(name string, before []byte, err error) error {
	return fmt.Errorf("%s: %w", place(name, before), err)
}

// place returns name and the number of the line that follows before.
func place(name string, before []byte) string {
	line := 1 + bytes.Count(before, []byte("\n"))
	if name == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("%s:%d", name, line)
}
