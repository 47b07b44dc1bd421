package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// Details for the log. The answer to the client contains none of these details.
var (
	errNoRoute    = errors.New("no route matches")
	errOverlooked = errors.New("a server that ignores case or a trailing slash would take the path for a path of a more specific route, which demands something else")
	errNotGranted = errors.New("the application has no grant for this API, or not for this method")
)

// route is a configured route of an API.
type route struct {
	rule      access.Rule
	api       string
	name      string // in logs and metrics: the path pattern
	scopes    []string
	binding   config.Binding
	assertion bool // the upstream gets an assertion, a JWT about the client
	webSocket bool // clients may switch to WebSocket
	anyBody   bool // a request may have a body with any method
	preflight bool // a CORS preflight needs no certificate and no token

	kinds         string            // the kinds of the segments of the path pattern, without a trailing slash, for moreSpecific
	spellings     urlpath.Spellings // spellings of segments that the API allows
	slashOptional bool              // the path matches with and without its trailing slash
}

func newRoute(api *config.API, r *config.Route) *route {
	scopes := make([]string, len(r.Scopes))
	for i, s := range r.Scopes {
		scopes[i] = string(s)
	}
	out := &route{
		api: string(api.Name), name: r.Path.String(), scopes: scopes, binding: api.Binding, assertion: r.Assertion,
		webSocket: slices.Contains(r.Upgrade, config.WebSocket), anyBody: r.Body == config.BodyAllowed,
		preflight: r.Preflight == config.PreflightAllow, kinds: kindsOf(r.Path.Segments()), slashOptional: api.TrailingSlash == config.OptionalSlash,
	}
	for _, e := range api.PathEncoding {
		out.spellings |= e.Spelling()
	}
	return out
}

// kindsOf returns one byte for the kind of each segment, and no byte for a trailing slash.
func kindsOf(segments []urlpath.Segment) string {
	kinds := make([]byte, 0, len(segments))
	for i, s := range segments {
		if i < len(segments)-1 || s.Kind != urlpath.Literal || s.Literal != "" {
			kinds = append(kinds, byte(s.Kind))
		}
	}
	return string(kinds)
}

// moreSpecific reports whether r is more specific than other, in the order of find. The patterns of r
// and other must match the same path, with or without its trailing slash. other may be nil.
func (r *route) moreSpecific(other *route) bool { return other == nil || r.kinds < other.kinds }

// literal reports whether the pattern of r has no {name} and no /**, so that no route is more specific.
func (r *route) literal() bool {
	return len(r.kinds) == 0 || slices.Max([]byte(r.kinds)) == byte(urlpath.Literal)
}

// coveredBy reports whether held contains every scope of r. Scopes are compared exactly (RFC 6749
// section 3.3).
func (r *route) coveredBy(held []string) bool {
	for _, s := range r.scopes {
		if !slices.Contains(held, s) {
			return false
		}
	}
	return true
}

// errScopes is the detail of a refusal of a token with the scopes held.
func (r *route) errScopes(held []string) error {
	return &access.Mismatch{Name: "scope", Want: strings.Join(r.scopes, " "), Got: access.Truncate(fmt.Sprintf("%q", held))}
}

// A node is a node in the tree of a host's routes. Each level of the tree is a path segment.
type node struct {
	literal  map[string]*node
	any      *node              // the child for {name}
	exact    map[string]*route  // by method: patterns that end at this node
	catchAll map[string]*route  // by method: patterns that end with /** after this node
	folded   map[string][]*node // the nodes in literal, by the result of foldCase
	longest  int                // a text of more bytes cannot have a key of folded as its foldCase
	bindings Bindings           // the bindings of all APIs of the host; set on the root of its routes
	api      string             // the API of all routes at and below the node; "" if they belong to several APIs
	shared   bool               // the routes at and below the node belong to several APIs

	// Set on the root of a host: the spellings and slashes that any API on the host allows.
	spellings     urlpath.Spellings
	slashOptional bool
	depth         int  // the number of segments of the longest pattern on the host
	overlapping   bool // the result of overlaps
}

// add adds r at segments for each method. It never replaces a route, because package config refuses
// two routes of a host with the same method and the same shape of pattern.
func (n *node) add(segments []urlpath.Segment, methods []config.Method, r *route) {
	routes := &n.exact
	n.noteAPI(r.api)
	for _, s := range segments {
		if s.Kind == urlpath.CatchAll { // CatchAll is always the last segment
			routes = &n.catchAll
			break
		}
		n = n.child(s)
		n.noteAPI(r.api)
		routes = &n.exact
	}
	if *routes == nil {
		*routes = make(map[string]*route)
	}
	for _, m := range methods {
		(*routes)[string(m)] = r
	}
}

// child returns the child of n for s, and creates it if necessary.
func (n *node) child(s urlpath.Segment) *node {
	if s.Kind == urlpath.Parameter {
		if n.any == nil {
			n.any = new(node)
		}
		return n.any
	}
	if n.literal == nil {
		n.literal = make(map[string]*node)
	}
	if n.literal[s.Literal] == nil {
		n.literal[s.Literal] = new(node)
		n.addFolded(s.Literal, n.literal[s.Literal])
	}
	return n.literal[s.Literal]
}

// find returns the most specific route with method for the decoded segments, or nil. At each segment
// a literal comes before {name}, and {name} before /**. If a specific pattern does not match, or
// matches and does not have the method, find tries a less specific pattern. So a new route never
// hides the route of another method. find visits no node twice, because a node has one parent.
func (n *node) find(segments []string, method string) *route {
	if len(segments) == 0 {
		return n.exact[method]
	}
	if child := n.literal[segments[0]]; child != nil {
		if r := child.find(segments[1:], method); r != nil {
			return r
		}
	}
	if n.any != nil && segments[0] != "" {
		if r := n.any.find(segments[1:], method); r != nil {
			return r
		}
	}
	return n.catchAll[method]
}

// route returns the route for method and target. The result does not depend on the client.
func (t *Table) route(method string, target Target) (*route, error) {
	root := t.root(target.Host)
	if root == nil {
		return nil, errNoRoute
	}
	path := make([]string, 0, 16) // on the stack: few paths have more than 16 segments
	for segment, err := range segments(target.Path, root.spellings) {
		switch {
		case err != nil:
			return nil, err
		case segment.Used != 0:
			return root.spelledRoute(method, target.Path)
		}
		path = append(path, segment.Text)
	}
	return root.match(path, method)
}

// match calls find with segments. If no route matches, match removes a trailing slash, or adds a missing
// slash, and calls find again; the route must allow both forms (slashOptional).
//
// An upstream may ignore case or a trailing slash. So match refuses a path that such an upstream may match
// with a more specific route, unless the more specific route demands no more of the client than the route
// that match has found.
func (n *node) match(segments []string, method string) (*route, error) {
	found := n.find(segments, method)
	if found == nil && n.slashOptional {
		if found = n.find(otherSlash(segments), method); found != nil && !found.slashOptional {
			found = nil
		}
	}
	switch {
	case found == nil:
		return nil, errNoRoute
	case n.overlapping && !found.literal() && n.overlookedEither(segments, method, found, found):
		return nil, errOverlooked
	}
	return found, nil
}

// overlookedEither is overlooked for segments with and without a trailing slash.
func (n *node) overlookedEither(segments []string, method string, found, granted *route) bool {
	return n.overlooked(segments, method, found, granted) || n.overlooked(otherSlash(segments), method, found, granted)
}

// otherSlash returns segments with their trailing slash removed or a missing slash added. An empty last
// segment is a trailing slash. The path "/" has no other form.
func otherSlash(segments []string) []string {
	switch last := len(segments) - 1; {
	case last < 0 || last == 0 && segments[0] == "":
		return segments
	case segments[last] == "":
		return segments[:last]
	}
	return append(segments, "")
}
