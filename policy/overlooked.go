package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// overlooked reports whether an upstream that ignores case may match segments with a route that demands more
// of the client than granted does. Only routes that are more specific than found are considered, or all
// routes if found is nil. Many routers ignore case by default: for the path /a/ML, the gate finds /a/{id},
// and such a router finds /a/ml.
func (n *node) overlooked(segments []string, method string, found, granted *route) bool {
	demandsMore := func(r *route) bool { return r != nil && r.moreSpecific(found) && !granted.demandsAlso(r) }
	if len(segments) == 0 {
		return demandsMore(n.exact[method])
	}
	if len(segments[0]) <= n.longest {
		for _, child := range n.folded[foldCase(segments[0])] {
			if child.overlooked(segments[1:], method, found, granted) {
				return true
			}
		}
	}
	if n.any != nil && segments[0] != "" && n.any.overlooked(segments[1:], method, found, granted) {
		return true
	}
	return demandsMore(n.catchAll[method])
}

// overlaps reports whether two patterns that go through n may match the same path, or paths that differ
// in case or in a trailing slash.
func (n *node) overlaps() bool {
	if n.literal != nil && n.any != nil || n.catchAll != nil && (n.exact != nil || n.literal != nil || n.any != nil) {
		return true
	}
	for _, child := range n.literal {
		if child.overlaps() {
			return true
		}
	}
	return n.any != nil && n.any.overlaps()
}

// addFolded adds child, the child of n for literal, to n.folded, in which overlooked searches.
func (n *node) addFolded(literal string, child *node) {
	if n.folded == nil {
		n.folded = make(map[string][]*node)
	}
	key := foldCase(literal)
	n.folded[key] = append(n.folded[key], child)
	n.longest = max(n.longest, utf8.UTFMax*len(literal))
}

// foldCase returns s with each character replaced by one of the characters that differ from it in case
// alone: two texts have the same result if and only if [strings.EqualFold] is true. It allocates nothing
// for ASCII without capital letters.
func foldCase(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || 'A' <= s[i] && s[i] <= 'Z' {
			return strings.Map(foldRune, s)
		}
	}
	return s
}

func foldRune(r rune) rune {
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	if 'A' <= least && least <= 'Z' {
		return least + 'a' - 'A'
	}
	return least
}
