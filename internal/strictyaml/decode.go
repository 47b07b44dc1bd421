// Package strictyaml decodes YAML into typed structs of any package. It differs from other decoders in
// four ways:
//
//   - Unknown and repeated keys, merge keys, explicit types and further documents are faults.
//   - Each type of value has one notation, and nothing in a value is expanded.
//   - All faults are found in one pass, each with file, line, column and path.
//   - The position of each value is kept, so that later checks can report it.
package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
)

// maxAliased bounds the number of values that come from aliases, because aliases inside aliases make a
// few lines stand for billions of values. The bound allows a list of ten values for each of 100,000
// elements.
const maxAliased = 1_000_000

// Options says how [Decode] treats the values of particular types. Every function may be nil.
type Options struct {
	File     string      // the file name in positions
	Defaults func(v any) // called with a pointer to each struct before its keys are decoded
	Scalar   func(v any) // called with a pointer to each scalar after it was decoded
	// Text returns the parser of the value that v points to, or nil for the type's own parser. It is
	// for types that other packages declare.
	Text func(v any) encoding.TextUnmarshaler
}

// Decode decodes the only YAML document in text into the struct that v points to. A key sets the field
// with that name in its yaml tag. Fields without a tag must be the last fields of a struct, and are not
// changed. A list replaces the previous list as a whole. These types are scalars: string, bool, int,
// time.Duration and every type with UnmarshalText. A struct that has both yaml tags and UnmarshalText
// can be written as a mapping or as a scalar.
//
// If there are faults, v is incomplete, and [Document.Failed] reports which values are missing.
func Decode(text []byte, v any, o Options) (Document, Faults) {
	root, faults := parse(o.File, text)
	if faults != nil {
		return Document{file: o.File, failed: map[string]bool{"": true}}, faults
	}
	d := decoder{
		options:  o,
		failed:   make(map[string]bool),
		rejected: make(map[*node]bool),
		keys:     make(map[reflect.Type][]string),
	}
	d.check(root, nil)
	at := d.decode(root, reflect.ValueOf(v).Elem())
	if d.stopped {
		d.failed[""] = true
	}
	return Document{file: o.File, root: at, failed: d.failed}, d.faults
}

// decoder sets Go values from the nodes of a document. It continues after a fault.
type decoder struct {
	options  Options
	faults   Faults
	steps    []step                    // the steps from the root to the current value
	failed   map[string]bool           // paths of values that could not be decoded
	rejected map[*node]bool            // nodes in which check has found a fault
	keys     map[reflect.Type][]string // the result of keysOf for each struct type

	aliasDepth int  // number of aliases around the current value
	aliased    int  // number of values that came from aliases
	stopped    bool // aliased exceeds maxAliased, so the decoded values are incomplete
}

// decode sets v from n and returns the locations of n and of all values inside it.
func (d *decoder) decode(n *node, v reflect.Value) location {
	at := location{line: int32(n.Line), column: int32(n.Column)}
	if d.aliasDepth > 0 {
		d.aliased++
	}
	switch {
	case d.stopped:
	case d.aliased > maxAliased:
		d.stopped = true
		d.fail(n, "aliases stand for more than %d values", maxAliased)
	case d.rejected[n]:
	case n.Kind == aliasNode:
		d.aliasDepth++
		at.inside = d.decode(n.Alias, v).inside
		d.aliasDepth--
	default:
		at.inside = d.value(n, v)
	}
	return at
}

// value sets v from n, which is not an alias, and returns the locations inside n.
func (d *decoder) value(n *node, v reflect.Value) []location {
	target := v.Addr().Interface()
	switch {
	case d.isScalar(target) && (n.Kind == scalarNode || len(d.keysOf(v.Type())) == 0):
		d.scalar(n, target)
	case v.Kind() == reflect.Pointer:
		return d.pointer(n, v)
	case v.Kind() == reflect.Slice:
		if d.expect(n, listNode) {
			return d.list(n, v)
		}
	case d.expect(n, mappingNode):
		return d.mapping(n, v)
	}
	return nil
}

// pointer sets v to a pointer to a new value from n. If the value is a scalar and n is empty, v stays
// nil, as if the key were absent.
func (d *decoder) pointer(n *node, v reflect.Value) []location {
	fresh := reflect.New(v.Type().Elem())
	if n.Kind == scalarNode && n.Tag != nullTag && n.Value == "" && d.isScalar(fresh.Interface()) {
		return nil
	}
	v.Set(fresh)
	return d.value(n, fresh.Elem())
}

// list sets the slice v from the elements of n. For a faulty element the slice has a zero value, so
// that the other elements keep their indexes and so their paths.
func (d *decoder) list(n *node, v reflect.Value) []location {
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	inside := make([]location, len(n.Content))
	for i, element := range n.Content {
		d.push(step{index: i, list: true})
		inside[i] = d.decode(element, v.Index(i))
		d.pop()
	}
	return inside
}

// mapping sets the fields of the struct v from the values of n.
func (d *decoder) mapping(n *node, v reflect.Value) []location {
	if d.options.Defaults != nil {
		d.options.Defaults(v.Addr().Interface())
	}
	keys := d.keysOf(v.Type())
	first := make([]int, len(keys)) // the line of each key's first occurrence
	inside := make([]location, 0, len(keys))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field := slices.Index(keys, key.Value)
		switch {
		case d.rejected[key]:
		case field < 0:
			d.unknownKey(key, keys)
		case first[field] > 0:
			d.fault(key, "duplicate key %q, first on line %d", key.Value, first[field])
		default:
			first[field] = key.Line
			d.push(step{key: keys[field]})
			at := d.decode(value, v.Field(field))
			d.pop()
			at.key = keys[field]
			inside = append(inside, at)
		}
	}
	return inside
}

// unknownKey records a fault for a key that is not in keys. If the key looks like a misspelling of a
// known key, the value of the known key is marked as failed, so that its absence is not reported as
// another fault.
func (d *decoder) unknownKey(key *node, keys []string) {
	d.fault(key, "unknown key %s%s", Quote(key.Value), DidYouMean(key.Value, keys))
	if meant := suggest(key.Value, keys); meant != "" {
		d.failed[Key(d.path(), meant)] = true
	}
}

// keysOf returns the keys of the struct type t in the order of its fields: the i-th key sets the i-th
// field. A type that is not a struct has no keys.
func (d *decoder) keysOf(t reflect.Type) []string {
	if keys, ok := d.keys[t]; ok || t.Kind() != reflect.Struct {
		return keys
	}
	var keys []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			keys = append(keys, key)
		}
	}
	d.keys[t] = keys
	return keys
}

func (d *decoder) push(s step) { d.steps = append(d.steps, s) }

func (d *decoder) pop() { d.steps = d.steps[:len(d.steps)-1] }

// fault records a fault of the current value at the position of n.
func (d *decoder) fault(n *node, format string, args ...any) {
	d.faults = append(d.faults, Fault{
		Position: Position{d.options.File, n.Line, n.Column},
		Path:     d.path(),
		Message:  fmt.Sprintf(format, args...),
	})
}

// fail records a fault that leaves the current value unset. It marks the value as failed, so that later
// checks do not report faults that only follow from the missing value.
func (d *decoder) fail(n *node, format string, args ...any) {
	d.fault(n, format, args...)
	d.failed[d.path()] = true
}
