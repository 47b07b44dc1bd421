package strictyaml

import (
	"encoding"
	"errors"
	"strconv"
	"strings"
	"time"
)

// isScalar reports whether the value that target points to is written as a scalar.
func (d *decoder) isScalar(target any) bool {
	switch target.(type) {
	case *time.Duration, *bool, *int, *string:
		return true
	}
	return d.parser(target) != nil
}

// parser returns the value whose UnmarshalText parses text for target, or nil if target has no such
// method.
func (d *decoder) parser(target any) encoding.TextUnmarshaler {
	if d.options.Text != nil {
		if p := d.options.Text(target); p != nil {
			return p
		}
	}
	p, _ := target.(encoding.TextUnmarshaler)
	return p
}

// scalar sets the value that target points to from n. A string gets the text unchanged, even if YAML
// would read the text as a number or a boolean: a version may be written 1.2, and a name may be written
// yes. Placeholders are not expanded.
func (d *decoder) scalar(n *node, target any) {
	if n.Kind != scalarNode || n.Tag == nullTag {
		d.fail(n, "expected %s, got %s%s", expected(target), kindOf(n), braces(n))
		return
	}
	if err := d.setScalar(n, target); err != nil {
		d.fail(n, "%v", err)
		return
	}
	if d.options.Scalar != nil {
		d.options.Scalar(target)
	}
}

func (d *decoder) setScalar(n *node, target any) (err error) {
	if p := d.parser(target); p != nil {
		return p.UnmarshalText([]byte(n.Value))
	}
	switch t := target.(type) {
	case *time.Duration:
		*t, err = time.ParseDuration(n.Value)
	case *bool:
		if *t = strings.EqualFold(n.Value, "true"); n.Tag != boolTag {
			err = strconv.ErrSyntax
		}
	case *int:
		// Only decimal notation is accepted: some YAML readers read 010 as eight, others as ten.
		if *t, err = strconv.Atoi(n.Value); n.Tag != intTag || strconv.Itoa(*t) != n.Value {
			err = strconv.ErrSyntax
		}
	case *string:
		*t = n.Value
	}
	if err != nil {
		return errors.New("expected " + expected(target) + ", got " + Quote(n.Value))
	}
	return nil
}

// expected describes, for a message, how a value of the type of target is written.
func expected(target any) string {
	switch target.(type) {
	case *time.Duration:
		return "a duration with its unit, such as 30s"
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	}
	return "text"
}

// kindOf describes the kind of n for a message.
func kindOf(n *node) string {
	switch {
	case n.Kind == mappingNode:
		return "a mapping"
	case n.Kind == listNode:
		return "a list"
	case n.Tag == nullTag:
		return "nothing"
	case n.Tag == boolTag:
		return "true or false"
	case n.Tag == intTag || n.Tag == floatTag:
		return "a number"
	}
	return "text"
}

// braces returns the end of a message about n where text is expected: a value such as {id} without
// quotation marks is a mapping.
func braces(n *node) string {
	if n.Kind == mappingNode && isFlow(n) {
		return "; text that begins with a brace needs quotation marks"
	}
	return ""
}

// expect reports whether n is of the given kind, a mapping or a list. If not, it records a fault.
func (d *decoder) expect(n *node, kind kind) bool {
	if n.Kind == kind {
		return true
	}
	got := kindOf(n)
	switch {
	case kind == mappingNode:
		d.fail(n, "expected a mapping, got %s", got)
	case n.Kind == scalarNode && n.Tag != nullTag:
		d.fail(n, "expected a list, got %s: write a list of one value as [value]", got)
	default:
		d.fail(n, "expected a list, got %s", got)
	}
	return false
}
