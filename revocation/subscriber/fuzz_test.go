package subscriber

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/revocation"
)

// readAll returns the events of a stream and the error that ends it.
func readAll(in io.Reader) (events []event, err error) {
	r := newEventReader(in, time.Now)
	for {
		e, err := r.next()
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

var streams = []struct {
	text   string
	events []event
	err    error
}{
	{"", nil, io.EOF},
	{":\n\n", nil, io.EOF},
	{"event: set\nid: e:1\ndata: a.b.c\n\n", []event{{"set", "a.b.c"}}, io.EOF},
	{": x\r\nevent:batch\r\ndata:a\r\n\r\ndata: b\n\n\n", []event{{"batch", "a"}, {"", "b"}}, io.EOF},
	{"event: set\ndata:  a: b\n\n", []event{{"set", " a: b"}}, io.EOF},
	{"event: set\ndata: a\n", nil, io.ErrUnexpectedEOF},
	{"event: set\ndata: a", nil, io.ErrUnexpectedEOF},
	{"data: a\n\nevent: x\nda", []event{{"", "a"}}, io.ErrUnexpectedEOF},
	{"event: set\n\n", nil, errFields},
	{"data\n\n", nil, errFields},
	{"data: a\ndata: b\n\n", nil, errFields},
	{"event: a\nevent: b\n\n", nil, errFields},
	{"Data: a\n\n", nil, errFields},
	{" data: a\n\n", nil, errFields},
	{"data: a\rdata: b\n\n", nil, errLine},
	{strings.Repeat("id: 1\n", maxFields+1), nil, errFields},
	{strings.Repeat("\n", commentBurst+1), nil, errComments},
	{strings.Repeat(":x\n", commentBurst), nil, errComments},
	{"data: " + strings.Repeat("x", maxLine), nil, errLine},
	{"data: " + strings.Repeat("x", revocation.MaxEvent) + "\n\n", []event{{"", strings.Repeat("x", revocation.MaxEvent)}}, io.EOF},
}

// FuzzEvents checks that a stream has the same events however its bytes arrive, that their size is bounded, and that an
// event which is written and read again stays the same.
func FuzzEvents(f *testing.F) {
	for _, s := range streams {
		events, err := readAll(strings.NewReader(s.text))
		if !errors.Is(err, s.err) || !cmp.Equal(events, s.events, cmp.AllowUnexported(event{})) {
			f.Errorf("%.80q: %.80v, %v; want %.80v, %v", s.text, events, err, s.events, s.err)
		}
		f.Add([]byte(s.text))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		events, err := readAll(bytes.NewReader(stream))
		slowly, slowErr := readAll(iotest.OneByteReader(bytes.NewReader(stream)))
		if err == nil || !cmp.Equal(events, slowly, cmp.AllowUnexported(event{})) || err.Error() != slowErr.Error() {
			t.Fatalf("%q: events %v, %v at once, and %v, %v byte by byte; want the same", stream, events, err, slowly, slowErr)
		}
		for _, e := range events {
			if len(e.data) > maxLine || e.data == "" || strings.ContainsAny(e.name+e.data, "\r\n") {
				t.Fatalf("%q: event %+v", stream, e)
			}
			again, err := readAll(strings.NewReader("event: " + e.name + "\ndata: " + e.data + "\n\n"))
			if want := []event{e}; e.name != "" && len(e.name) < 100 && len(e.data) < revocation.MaxEvent && !cmp.Equal(again, want, cmp.AllowUnexported(event{})) {
				t.Fatalf("%+v becomes %+v, %v", e, again, err)
			}
		}
	})
}

// FuzzStateFile checks that readState does not panic for any content with a correct checksum, and that its result can be
// written and read again.
func FuzzStateFile(f *testing.F) {
	k := known(f, time.Now(), everyKind()...)
	var file bytes.Buffer
	check(f, writeState(&file, fileHead{source: issuer, position: k.readPosition(), completeAt: k.lastComplete()}, k.set.Each))
	for content, ok := range map[string]bool{
		file.String()[:file.Len()-sha256.Size]:                 true,
		fileVersion:                                            false,
		fileVersion + "\x00\x01e\x00\x00\x00":                  true,
		fileVersion + "\x00\x01e\x00\x00\x00x":                 false,
		fileVersion + "\x00\x01e\x00\x00":                      false,
		fileVersion + "\xff\xff\xff\xff\xff\xff\xff\xff\x7f":   false,
		fileVersion + "\x00\x01e\x00\x00\x09\x01a\x00\x00\x00": false,
		"": false,
	} {
		if _, _, err := readSealed([]byte(content)); (err == nil) != ok {
			f.Errorf("%q: %v, want an error %t", content, err, !ok)
		}
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		head, entries, err := readSealed(content)
		if err != nil {
			return
		}
		var written bytes.Buffer
		check(t, writeState(&written, head, func(yield func(revocation.Entry) bool) {
			for _, e := range entries {
				if !yield(e) {
					return
				}
			}
		}))
		again, entriesAgain, err := readSealed(written.Bytes()[:written.Len()-sha256.Size])
		if err != nil || !cmp.Equal(head, again, cmp.AllowUnexported(fileHead{})) || !cmp.Equal(entries, entriesAgain) {
			t.Fatalf("%q: %+v with %v is read again as %+v with %v, %v", content, head, entries, again, entriesAgain, err)
		}
	})
}

// readSealed returns what readState reads from content and its checksum.
func readSealed(content []byte) (head fileHead, entries []revocation.Entry, err error) {
	head, err = readState(bytes.NewReader(sealed(content)), func(fileHead) error { return nil }, func(e revocation.Entry) error {
		entries = append(entries, e)
		return nil
	})
	return head, entries, err
}
