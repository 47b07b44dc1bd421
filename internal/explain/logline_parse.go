package explain

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

var errLogLine = errors.New("expected one line of the gate's log, a JSON object with the member msg")

// ParseLogLine returns the members of the only line in text. Bytes before the first brace are
// skipped, because collectors of logs put names and times before a line. Members that occur twice are
// both returned. The error quotes nothing.
func ParseLogLine(text []byte) ([]LogField, error) {
	start := bytes.IndexByte(text, '{')
	if start < 0 {
		return nil, errLogLine
	}
	d := jsontext.NewDecoder(bytes.NewReader(text[start:]), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadToken(); err != nil {
		return nil, errLogLine
	}
	var fields []LogField
	for d.PeekKind() == jsontext.KindString {
		key, err := d.ReadToken()
		if err != nil {
			return nil, errLogLine
		}
		name := key.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, errLogLine
		}
		shown := string(value)
		if s, ok := textOf(value); ok {
			shown = s
		}
		fields = append(fields, LogField{name, shown})
	}
	if end, err := d.ReadToken(); err != nil || end.Kind() != jsontext.KindEndObject || !hasMessage(fields) {
		return nil, errLogLine
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("expected one line of the gate's log, got more")
	}
	return fields, nil
}

func hasMessage(fields []LogField) bool {
	return slices.ContainsFunc(fields, func(f LogField) bool { return f.Key == "msg" })
}
