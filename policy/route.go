package policy

import (
	"errors"
	"slices"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// Why no call was found, for the log; the caller is told none of it.
var (
	errNoRoute    = errors.New("no route matches")
	errNotGranted = errors.New("the application has not been granted this API, or this method of it")
)

// route is one call that an API offers.
type route struct {
	api       string
	name      string // in logs and metrics: the API and the pattern
	scopes    []string
	asserted  bool // the upstream wants a JWT of ours about the caller
	webSocket bool // a caller may switch to WebSocket
	anyBody   bool // every method may have a body
}

func newRoute(api string, r *config.Route) *route {
	scopes := make([]string, len(r.Scopes))
	for i, s := range r.Scopes {
		scopes[i] = string(s)
	}
	return &route{
		api: api, name: api + " " + r.Path.String(), scopes: scopes, asserted: r.Assertion,
		webSocket: slices.Contains(r.Upgrade, config.WebSocket), anyBody: r.Body == config.BodyAllowed,
	}
}

// covered reports whether held has every scope of r. Scopes are compared exactly, RFC
// 6749 section 3.3.
func (r *route) covered(held []string) bool {
	for _, s := range r.scopes {
		if !slices.Contains(held, s) {
			return false
		}
	}
	return true
}

// A node is a place in the tree of a host's routes, one level a segment.
type node struct {
	literal map[string]*node
	any     *node             // {name}
	here    map[string]*route // by method, of patterns that end here
	rest    map[string]*route // by method, of patterns that go on with /**
}

// add puts r where segments lead, for each method. On one host no two routes share
// both the shape of their pattern and a method: the configuration was checked for it.
func (n *node) add(segments []urlpath.Segment, methods []config.Method, r *route) {
	routes := &n.here
	for _, s := range segments {
		if s.Kind == urlpath.CatchAll { // always the last
			routes = &n.rest
			break
		}
		n = n.child(s)
		routes = &n.here
	}
	if *routes == nil {
		*routes = make(map[string]*route)
	}
	for _, m := range methods {
		(*routes)[string(m)] = r
	}
}

// child returns the node that s leads to, a new one when there is none yet.
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
	}
	return n.literal[s.Literal]
}

// find returns the most specific route that offers method for the decoded segments:
// at each segment a literal comes before {name}, and {name} before /**. A less
// specific pattern is tried when a more specific one leads nowhere or does not offer
// the method, so adding a route never takes another method's route away. No node is
// visited twice, since a node has one parent.
func (n *node) find(segments []string, method string) *route {
	if len(segments) == 0 {
		return n.here[method]
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
	return n.rest[method]
}

// route returns the route that offers method at target. Which one it is does not
// depend on the caller.
func (t *Table) route(method string, target Target) (*route, error) {
	root := t.root(target.Host)
	if root == nil {
		return nil, errNoRoute
	}
	path := make([]string, 0, 16) // on the stack; few paths have more segments
	for segment, err := range segments(target.Path) {
		if err != nil {
			return nil, err
		}
		path = append(path, segment)
	}
	if r := root.find(path, method); r != nil {
		return r, nil
	}
	return nil, errNoRoute
}
