package policy

import "net/http"

// Labels of requests that belong to no route. Package config refuses an API with such a name.
const (
	NoAPI     = "none"      // no API is served under the host
	Unmatched = "unmatched" // no route matches; as an API: several APIs are served under the host, and the path tells no API
)

// Labels returns the API and the route that r would reach, for logs and metrics. It looks only at
// host, method and path, so it also works for a request that is refused before its client is known,
// and says nothing about access. Without a matching route, api is the only API that has routes under
// the beginning of the path.
func (t *Table) Labels(r *http.Request) (api, route string) {
	host, err := parseHost(r.Host)
	if err != nil {
		return NoAPI, Unmatched
	}
	root := t.root(host)
	if root == nil {
		return NoAPI, Unmatched
	}
	target, err := t.ParseTarget(r)
	if err != nil {
		return root.apiLabel(), Unmatched
	}
	if found, err := t.route(r.Method, target); err == nil {
		return found.api, found.name
	}
	return root.nearest(target.Path).apiLabel(), Unmatched
}

// nearest returns the first node on the way of path whose routes belong to one API, or the last node on
// the way.
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
