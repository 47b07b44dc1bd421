package subscriber

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"time"

	"github.com/tallygate/tallygate/revocation"
)

// The state file has, after the line with its version:
//
//	text     the source: the issuer identifier, a space, and the SHA-256 of the trusted anchors and keys in hex
//	text     the epoch of the position
//	uvarint  the number of the position
//	varint   when the set was last known to be complete, Unix milliseconds; 0: never
//	entries  each: a byte with the kind, the subject as text, uvarint issued_by and uvarint until, Unix seconds, 0: none
//	0        a byte after the last entry
//	32 bytes the SHA-256 of all bytes before
//
// A text is a uvarint with its length and its bytes.
const fileVersion = "tallygate revocations 1\n"

// A fileHead has the content of a state file, apart from the entries.
type fileHead struct {
	source     string // see sourceOf
	position   revocation.Position
	completeAt time.Time // zero: never
}

var (
	errFileVersion = errors.New("not a file of revocations of this version")
	errFileSum     = errors.New("the file is corrupt: its checksum does not match")
	errFileForm    = errors.New("the file is corrupt")
	errFileMode    = errors.New("another user could have written the file")
)

// writeState writes the head and the entries to w.
func writeState(w io.Writer, head fileHead, each func(yield func(revocation.Entry) bool)) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	var scratch []byte
	text := func(s string) {
		scratch = append(binary.AppendUvarint(scratch, uint64(len(s))), s...)
	}
	scratch = append(scratch, fileVersion...)
	text(head.source)
	text(head.position.Epoch)
	scratch = binary.AppendUvarint(scratch, head.position.Seq)
	scratch = binary.AppendVarint(scratch, unixMilli(head.completeAt))
	_, err := out.Write(scratch)
	each(func(e revocation.Entry) bool {
		scratch = append(scratch[:0], byte(e.Kind))
		text(e.Subject)
		scratch = binary.AppendUvarint(scratch, unix(e.IssuedBy))
		scratch = binary.AppendUvarint(scratch, unix(e.Until))
		if err == nil {
			_, err = out.Write(scratch)
		}
		return err == nil
	})
	if err == nil {
		err = out.WriteByte(0)
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		_, err = w.Write(sum.Sum(nil))
	}
	return err
}

func unix(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(0, t.Unix()))
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// readState reads a file that [writeState] wrote, and adds its entries. It adds no entry unless the checksum
// matches and check accepts the head.
func readState(file io.ReadSeeker, check func(fileHead) error, add func(revocation.Entry) error) (fileHead, error) {
	size, err := checkSum(file)
	if err != nil {
		return fileHead{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fileHead{}, err
	}
	in := &stateReader{Reader: bufio.NewReaderSize(io.LimitReader(file, size), 64<<10)}
	in.version()
	head := fileHead{source: in.text(), position: revocation.Position{Epoch: in.text(), Seq: in.uvarint()}}
	if completeAt := in.varint(); completeAt != 0 {
		head.completeAt = time.UnixMilli(completeAt)
	}
	if in.err != nil {
		return fileHead{}, in.err
	}
	if err := check(head); err != nil {
		return fileHead{}, err
	}
	for {
		e, ok := in.entry()
		if !ok {
			return head, in.err
		}
		if err := add(e); err != nil {
			return fileHead{}, err
		}
	}
}

// checkSum compares the checksum at the end of the file, and returns the number of bytes before it.
func checkSum(file io.ReadSeeker) (size int64, err error) {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	size = end - sha256.Size
	if size < int64(len(fileVersion)) {
		return 0, errFileVersion
	}
	if _, err = file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, file, size); err != nil {
		return 0, err
	}
	var want [sha256.Size]byte
	if _, err := io.ReadFull(file, want[:]); err != nil {
		return 0, err
	}
	if [sha256.Size]byte(sum.Sum(nil)) != want {
		return 0, errFileSum
	}
	return size, nil
}

// A stateReader reads the parts of a state file. After the first error it returns zero values.
type stateReader struct {
	*bufio.Reader
	err     error
	scratch []byte
}

func (r *stateReader) fail(err error) {
	if r.err == nil && err != nil {
		r.err = errFileForm
	}
}

func (r *stateReader) version() {
	line := make([]byte, len(fileVersion))
	if _, err := io.ReadFull(r, line); err != nil || string(line) != fileVersion {
		r.err = errFileVersion
	}
}

func (r *stateReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(r)
	r.fail(err)
	return n
}

func (r *stateReader) varint() int64 {
	if r.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(r)
	r.fail(err)
	return n
}

func (r *stateReader) text() string {
	n := r.uvarint()
	if n > revocation.MaxEvent { // no text of a message is longer
		r.fail(errFileForm)
	}
	if r.err != nil {
		return ""
	}
	if uint64(cap(r.scratch)) < n {
		r.scratch = make([]byte, n)
	}
	text := r.scratch[:n]
	_, err := io.ReadFull(r, text)
	r.fail(err)
	return string(text)
}

func (r *stateReader) time() time.Time {
	n := r.uvarint()
	if n > math.MaxInt64>>1 {
		r.fail(errFileForm)
	}
	if n == 0 || r.err != nil {
		return time.Time{}
	}
	return time.Unix(int64(n), 0)
}

// entry returns the next entry, and false after the last entry or after an error.
func (r *stateReader) entry() (revocation.Entry, bool) {
	if r.err != nil {
		return revocation.Entry{}, false
	}
	kind, err := r.ReadByte()
	r.fail(err)
	if kind == 0 || r.err != nil {
		if _, err := r.Peek(1); !errors.Is(err, io.EOF) {
			r.fail(errFileForm)
		}
		return revocation.Entry{}, false
	}
	e := revocation.Entry{Kind: revocation.Kind(kind), Subject: r.text(), IssuedBy: r.time(), Until: r.time()}
	if r.err == nil {
		r.fail(e.Check())
	}
	return e, r.err == nil
}
