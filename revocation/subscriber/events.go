package subscriber

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/tallygate/tallygate/revocation"
)

const (
	// maxLine bounds a line in bytes: the data of the largest event, and the name of the field.
	maxLine = revocation.MaxEvent + 64
	// maxFields bounds the lines of an event. An event of the feed has the lines event, id and data.
	maxFields = 8
	// eventTimeout bounds the time from the first byte of an event to its last byte. The largest event needs
	// 512 KiB / 30 s = 17 KiB/s.
	eventTimeout = 30 * time.Second
	// Comments and empty lines keep a connection alive while there is no event. Between two events they may have
	// commentBurst bytes, and commentRate bytes more in each second. A comment each second has some ten bytes.
	commentBurst = 4 << 10
	commentRate  = 1 << 10
)

// An event is a server-sent event (WHATWG HTML, section 9.2).
type event struct {
	name string // "" when absent
	data string
}

var (
	errLine     = errors.New("a line of the stream is too long, or not of an event of the feed")
	errFields   = errors.New("an event of the stream has too many lines, no data or data twice")
	errSlow     = errors.New("an event of the stream takes too long")
	errComments = errors.New("the stream has too many comments")
)

// An eventReader reads the events of a stream. It holds at most one event in memory. It is stricter than the standard:
// a line ends with LF or CRLF, an event has one line of data, and there are no fields besides event, id, data and
// retry. The fields id and retry are not used, because they are not signed.
type eventReader struct {
	in        *bufio.Reader
	now       func() time.Time
	line      []byte    // the buffer of the current line
	began     time.Time // when the first byte of the current event was read; zero between two events
	comments  int       // bytes of comments and empty lines since lastEvent
	lastEvent time.Time // when the last event ended, or the reader was made
}

func newEventReader(in io.Reader, now func() time.Time) *eventReader {
	r := &eventReader{now: now, lastEvent: now()}
	r.in = bufio.NewReaderSize(&timedReader{in, r}, 32<<10)
	return r
}

// A timedReader fails when the current event takes too long.
type timedReader struct {
	io.Reader
	events *eventReader
}

func (t *timedReader) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if began := t.events.began; !began.IsZero() && t.events.now().Sub(began) > eventTimeout {
		return 0, errSlow
	}
	return n, err
}

// next returns the next event. The error is io.EOF if the stream ends between two events.
func (r *eventReader) next() (event, error) {
	var e event
	fields := 0
	for {
		line, err := r.readLine()
		if err != nil {
			if errors.Is(err, io.EOF) && fields > 0 {
				err = io.ErrUnexpectedEOF
			}
			return event{}, err
		}
		switch {
		case len(line) == 0 && fields > 0:
			r.began, r.comments, r.lastEvent = time.Time{}, 0, r.now()
			if e.data == "" {
				return event{}, errFields
			}
			return e, nil
		case len(line) == 0 || line[0] == ':':
			if err := r.countComment(len(line) + 1); err != nil {
				return event{}, err
			}
			continue
		}
		if fields++; fields > maxFields || !e.add(line) {
			return event{}, errFields
		}
	}
}

// add adds a line with a field to e. It returns false if e cannot have the field.
func (e *event) add(line []byte) bool {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		if e.name != "" {
			return false
		}
		e.name = string(value)
	case "data":
		if e.data != "" {
			return false
		}
		e.data = string(value)
	case "id", "retry":
	default:
		return false
	}
	return true
}

// countComment counts n bytes of a comment or an empty line.
func (r *eventReader) countComment(n int) error {
	r.comments += n
	if r.comments > commentBurst+commentRate*int(r.now().Sub(r.lastEvent)/time.Second) {
		return errComments
	}
	return nil
}

// readLine returns the next line without its end. The result is valid until the next call.
func (r *eventReader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		if r.began.IsZero() && len(part) > 0 && part[0] != ':' && part[0] != '\n' {
			r.began = r.now()
		}
		if len(r.line)+len(part) > maxLine {
			return nil, errLine
		}
		r.line = append(r.line, part...)
		switch {
		case err == nil:
			line := bytes.TrimSuffix(r.line[:len(r.line)-1], []byte("\r"))
			if bytes.IndexByte(line, '\r') >= 0 {
				return nil, errLine
			}
			return line, nil
		case errors.Is(err, io.EOF) && len(r.line) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
