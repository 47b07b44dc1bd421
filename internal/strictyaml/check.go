package strictyaml

import (
	"slices"
	"strings"
)

// maxDepth bounds the nesting of mappings and lists. Our configuration has ten levels.
const maxDepth = 20

// check finds the unsupported parts of YAML anywhere in n, including values that set no field: explicit
// types, merge keys, keys that are not text, aliases inside the value that they name, and deep nesting.
// ancestors are the nodes around n, the outermost first.
func (d *decoder) check(n *node, ancestors []*node) {
	switch {
	case len(ancestors) >= maxDepth:
		d.reject(n, "nested more than %d levels deep", maxDepth)
	case hasTag(n):
		d.reject(n, "types such as %s are not supported here", Quote(n.Tag))
	case n.Kind == aliasNode && slices.Contains(ancestors, n.Alias):
		d.reject(n, "the alias %s is inside the value that it names", Quote(n.Value))
	case n.Kind == mappingNode:
		ancestors = append(ancestors, n)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i]; d.checkKey(key) {
				d.push(step{key: key.Value})
				d.check(n.Content[i+1], ancestors)
				d.pop()
			}
		}
	case n.Kind == listNode:
		ancestors = append(ancestors, n)
		for i, element := range n.Content {
			d.push(step{index: i, list: true})
			d.check(element, ancestors)
			d.pop()
		}
	}
}

// checkKey reports whether a mapping's key is plain text.
func (d *decoder) checkKey(key *node) bool {
	switch {
	case key.Kind != scalarNode || hasTag(key):
		d.reject(key, "a key must be plain text")
	case key.Tag == mergeTag:
		d.reject(key, "merge keys (<<) are not supported; write the keys out, or use an alias for the whole value")
	default:
		return true
	}
	return false
}

// reject records a fault in n, and makes decode skip n.
func (d *decoder) reject(n *node, format string, args ...any) {
	d.fail(n, format, args...)
	d.rejected[n] = true
}

// step is the key of a value in a mapping, or the index of a value in a list.
type step struct {
	key   string
	index int
	list  bool
}

// path returns the path of the current value.
func (d *decoder) path() string {
	path := ""
	for _, s := range d.steps {
		switch {
		case s.list:
			path = Index(path, s.index)
		case s.key == "" || strings.Trim(s.key, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
			path = Key(path, Quote(s.key)) // an unknown key, which may be any text
		default:
			path = Key(path, s.key)
		}
	}
	return path
}
