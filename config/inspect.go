package config

import (
	"slices"
	"strings"
)

// maxDepth bounds how deep mappings and lists are nested in each other; the tree
// has ten levels.
const maxDepth = 20

// inspect finds, everywhere in n and also where the decoder has no business, what
// no configuration needs: types given by hand, merge keys, keys that are no text,
// aliases inside what they name, and endless nesting. around is what n stands in,
// outermost first.
func (d *decoder) inspect(n *node, around []*node) {
	switch {
	case len(around) >= maxDepth:
		d.refuse(n, "nested more than %d levels deep", maxDepth)
	case hasTag(n):
		d.refuse(n, "types such as %s are not supported here", quote(n.Tag))
	case n.Kind == aliasNode && slices.Contains(around, n.Alias):
		d.refuse(n, "the alias %s stands inside what it names", quote(n.Value))
	case n.Kind == mappingNode:
		around = append(around, n)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i]; d.inspectKey(key) {
				d.push(step{key: key.Value})
				d.inspect(n.Content[i+1], around)
				d.pop()
			}
		}
	case n.Kind == listNode:
		around = append(around, n)
		for i, element := range n.Content {
			d.push(step{index: i, list: true})
			d.inspect(element, around)
			d.pop()
		}
	}
}

// inspectKey reports whether a mapping's key is plain text.
func (d *decoder) inspectKey(key *node) bool {
	switch {
	case key.Kind != scalarNode || hasTag(key):
		d.refuse(key, "a key is plain text")
	case key.Tag == mergeTag:
		d.refuse(key, "merge keys (<<) are not supported; write the keys out, or use an alias for the whole value")
	default:
		return true
	}
	return false
}

// refuse records a fault in n and keeps the decoder off it.
func (d *decoder) refuse(n *node, format string, args ...any) {
	d.fail(n, format, args...)
	d.refused[n] = true
}

// step is the key of a mapping's value, or the index of a list's.
type step struct {
	key   string
	index int
	list  bool
}

// path returns the path of the value at hand.
func (d *decoder) path() string {
	path := ""
	for _, s := range d.steps {
		switch {
		case s.list:
			path = element(path, s.index)
		case s.key == "" || strings.Trim(s.key, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
			path = child(path, quote(s.key)) // no key of ours: it may hold anything
		default:
			path = child(path, s.key)
		}
	}
	return path
}
