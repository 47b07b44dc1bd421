package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
)

// maxAliased bounds the values that come from aliases, since a few lines can name
// billions: it leaves a list of ten for each of 100,000 applications.
const maxAliased = 1_000_000

// decoder sets a tree from nodes. It goes on after a fault, so that one reading
// finds them all.
type decoder struct {
	file    string // for positions
	dir     string // what relative paths are relative to; "" leaves them as they are
	faults  Faults
	steps   []step                    // the way from the root to the value at hand
	failed  map[string]bool           // paths whose value is not what the file meant
	refused map[*node]bool            // nodes that inspect found a fault in
	keys    map[reflect.Type][]string // of the structs met so far

	within  int  // aliases that the value at hand came through
	aliased int  // values that came through any
	stopped bool // aliased has passed its limit; the tree is incomplete
}

// decode sets v from n and returns where n, and all inside it, stood.
func (d *decoder) decode(n *node, v reflect.Value) place {
	at := place{line: int32(n.Line), column: int32(n.Column)}
	if d.within > 0 {
		d.aliased++
	}
	switch {
	case d.stopped:
	case d.aliased > maxAliased:
		d.stopped = true
		d.fail(n, "aliases stand for more than %d values in all", maxAliased)
	case d.refused[n]:
	case n.Kind == aliasNode:
		d.within++
		at.inside = d.decode(n.Alias, v).inside
		d.within--
	default:
		at.inside = d.value(n, v)
		switch p := v.Addr().Interface().(type) {
		case *Path:
			d.absolute(p)
		case *RevocationList:
			d.absolute(&p.File)
		}
	}
	return at
}

// absolute makes a path that names a file absolute.
func (d *decoder) absolute(p *Path) {
	if *p != "" && d.dir != "" && !filepath.IsAbs(string(*p)) {
		*p = Path(filepath.Join(d.dir, string(*p)))
	}
}

// value sets v from n, which is no alias, and returns what stood inside n.
func (d *decoder) value(n *node, v reflect.Value) []place {
	target := v.Addr().Interface()
	if grant, ok := target.(*APIGrant); ok && n.Kind == scalarNode {
		target = &grant.API // the short form
	}
	if isScalar(target) {
		d.scalar(n, target)
		return nil
	}
	if v.Kind() == reflect.Pointer {
		return d.pointer(n, v)
	}
	if v.Kind() == reflect.Slice {
		if !d.expect(n, listNode) {
			return nil
		}
		return d.list(n, v)
	}
	if !d.expect(n, mappingNode) {
		return nil
	}
	return d.mapping(n, v)
}

// pointer sets v to a new value from n. Empty text for a scalar is the same as
// leaving it out.
func (d *decoder) pointer(n *node, v reflect.Value) []place {
	fresh := reflect.New(v.Type().Elem())
	if n.Kind == scalarNode && n.Tag != nullTag && n.Value == "" && isScalar(fresh.Interface()) {
		return nil
	}
	v.Set(fresh)
	return d.value(n, fresh.Elem())
}

// list sets the slice v from the elements of n. An element that is faulty keeps
// its place, so that the others keep their paths.
func (d *decoder) list(n *node, v reflect.Value) []place {
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	inside := make([]place, len(n.Content))
	for i, element := range n.Content {
		d.push(step{index: i, list: true})
		inside[i] = d.decode(element, v.Index(i))
		d.pop()
	}
	return inside
}

// mapping sets the fields of the struct v from the values of n.
func (d *decoder) mapping(n *node, v reflect.Value) []place {
	setDefaults(v.Addr().Interface())
	keys := d.keysOf(v.Type())
	first := make([]int, len(keys)) // the line of each key
	inside := make([]place, 0, len(keys))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field := slices.Index(keys, key.Value)
		switch {
		case d.refused[key]:
		case field < 0:
			d.unknown(key, keys)
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

// unknown records a key that is none of keys. What it was probably meant for has
// failed: that it is missing is no further fault.
func (d *decoder) unknown(key *node, keys []string) {
	d.fault(key, "unknown key %s%s", quote(key.Value), didYouMean(key.Value, keys))
	if meant := suggest(key.Value, keys); meant != "" {
		d.failed[child(d.path(), meant)] = true
	}
}

// keysOf returns the keys of the struct t; the i-th sets its i-th field. Fields that
// no key sets come last and are left out.
func (d *decoder) keysOf(t reflect.Type) []string {
	if keys, ok := d.keys[t]; ok {
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

// fault records what is wrong at n with the value at hand.
func (d *decoder) fault(n *node, format string, args ...any) {
	d.faults = append(d.faults, Fault{
		Position: Position{d.file, n.Line, n.Column},
		Path:     d.path(),
		Message:  fmt.Sprintf(format, args...),
	})
}

// fail records a fault that leaves the value at hand unknown: what follows from it
// is no further fault.
func (d *decoder) fail(n *node, format string, args ...any) {
	d.fault(n, format, args...)
	d.failed[d.path()] = true
}
