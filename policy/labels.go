package policy

import "net/http"

// Labels of requests that belong to no route. Package config refuses an API with such a name.
const (
	NoAPI     = "none"      // no API is served under the host
	Unmatched = "unmatched" // as a route: no route matches; as an API: several APIs are served under the host, and the path does not identify the API
)

// Labels name the host, API and route of a request, for logs and metrics.
type Labels struct {
	Host  string // as in [Target]; "" if no API is served under the host
	API   string // the API of the route; without a route, the API of all routes that begin with the matched part of the path; otherwise Unmatched or NoAPI
	Route string // the path pattern of the route, or Unmatched
}

// Labels returns the Labels of r. It looks only at host, method and path, so it also works for a request that
// is refused before its client is known, and says nothing about access.
func (t *Table) Labels(r *http.Request) Labels {
	host, err := parseHost(r.Host)
	if err != nil {
		return Labels{API: NoAPI, Route: Unmatched}
	}
	root := t.root(host)
	if root == nil {
		return Labels{API: NoAPI, Route: Unmatched}
	}
	target, err := t.ParseTarget(r)
	if err != nil {
		return Labels{host, root.apiLabel(), Unmatched}
	}
	if found, err := t.route(r.Method, target); err == nil {
		return Labels{host, found.api, found.name}
	}
	return Labels{host, root.nearest(target.Path).apiLabel(), Unmatched}
}

// nearest follows the segments of path from n down the tree, and returns the first node whose routes all
// belong to one API. If there is no such node, it returns the last node that it reaches.
func (n *node) nearest(path string) *node {
	for segment, err := range segments(path, n.spellings) {
		if err != nil || n.api != "" {
			return n
		}
		child := n.literal[segment.Text]
		if child == nil {
			child = n.any
		}
		if child == nil {
			return n
		}
		n = child
	}
	return n
}

// noteAPI records that a route of api is at n or below n.
func (n *node) noteAPI(api string) {
	switch {
	case n.shared, n.api == api:
	case n.api == "":
		n.api = api
	default:
		n.api, n.shared = "", true
	}
}

func (n *node) apiLabel() string {
	if n.api == "" {
		return Unmatched
	}
	return n.api
}
