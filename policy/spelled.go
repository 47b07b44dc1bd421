package policy

import (
	"errors"

	"github.com/tallygate/tallygate/internal/urlpath"
)

var (
	errSpelling = errors.New("the path has a spelling that path_encoding of the route's API does not list")
	errReading  = errors.New("a server that decodes or splits the path differently would read the path of another route")
)

// spellings returns every spelling that at least one API on host allows. After the match,
// spelledRoute checks that the route's own API allows the spellings in the path.
func (t *Table) spellings(host string) urlpath.Spellings {
	if root := t.root(host); root != nil {
		return root.spellings
	}
	return 0
}

// spelledRoute finds the route, like [Table.route], for a path with spellings that
// [urlpath.DecodeSegment] refuses. A segment with such a spelling matches no literal; {name} matches
// it as one segment.
//
// An upstream may split or decode the path differently from the gate. Each possible reading of the
// path must match no route, or a route with the same demands on the client. So no spelling leads the
// upstream to a route whose demands the gate has not checked.
func (n *node) spelledRoute(method, path string) (*route, error) {
	var read []urlpath.Decoded
	var matched []string
	var used urlpath.Spellings
	for segment, err := range segments(path, n.spellings) {
		if err != nil {
			return nil, err
		}
		read, used = append(read, segment), used|segment.Used
		if segment.Used != 0 {
			segment.Text = "\x00" // no literal contains this text
		}
		matched = append(matched, segment.Text)
	}
	found, err := n.match(matched, method)
	switch {
	case err != nil:
		return nil, err
	case used&^found.spellings != 0:
		return nil, errSpelling
	}
	// Only /** matches the segments after the depth of the longest pattern, so readings need not be
	// longer. The depth is increased because otherSlash may remove the last segment of a reading.
	for reading := range urlpath.Readings(read, n.depth+2) {
		other := n.find(reading, method)
		if other != nil && !found.demandsAlso(other) || n.overlookedEither(reading, method, other, found) {
			return nil, errReading
		}
	}
	return found, nil
}

// demandsAlso reports whether other would accept every request that r accepts, and the gate would
// forward the request in the same way.
func (r *route) demandsAlso(other *route) bool {
	return r.api == other.api && other.coveredBy(r.scopes) && r.assertion == other.assertion && r.webSocket == other.webSocket && r.anyBody == other.anyBody &&
		r.preflight == other.preflight
}
