package configcheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/strictyaml"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// routes examines the path patterns.
func (e *examiner) routes() {
	roots := make(map[rootKey]*pattern)
	for i := range e.cfg.APIs {
		for j := range e.cfg.APIs[i].Routes {
			e.literalColon(i, j)
			for _, host := range e.cfg.APIs[i].Hosts {
				for _, method := range e.cfg.APIs[i].Routes[j].Methods {
					key := rootKey{host, method}
					if roots[key] == nil {
						roots[key] = new(pattern)
					}
					roots[key].add(e.cfg.APIs[i].Routes[j].Path.Segments(), routeIndex{i, j})
				}
			}
		}
	}
	e.shadowedRoutes(roots)
}

func routePath(r routeIndex) string {
	return strictyaml.Index(strictyaml.Index("apis", r.api)+".routes", r.route) + ".path"
}

// literalColon warns of a segment such as :id, which other routers take as a parameter.
func (e *examiner) literalColon(i, j int) {
	for _, s := range e.cfg.APIs[i].Routes[j].Path.Segments() {
		if name, ok := strings.CutPrefix(s.Literal, ":"); ok && name != "" {
			e.warn(routePath(routeIndex{i, j}), "the segment %s matches only itself; a parameter is {%s}", strictyaml.Quote(s.Literal), name)
			return
		}
	}
}

// A rootKey has the host and the method, which two routes must share to match the same requests.
type rootKey struct {
	host   config.Host
	method config.Method
}

// A routeIndex names a route by the index of its API and its index in that API.
type routeIndex struct{ api, route int }

// A pattern is a node in the tree of the path patterns of one host and method.
type pattern struct {
	literal         map[string]*pattern
	parameter       *pattern
	exact, catchAll []routeIndex // routes whose pattern ends at this node, and routes whose pattern has /** after this node
}

func (p *pattern) add(segments []urlpath.Segment, r routeIndex) {
	for _, s := range segments {
		switch s.Kind {
		case urlpath.CatchAll:
			p.catchAll = append(p.catchAll, r)
			return
		case urlpath.Parameter:
			if p.parameter == nil {
				p.parameter = new(pattern)
			}
			p = p.parameter
		case urlpath.Literal:
			if p.literal == nil {
				p.literal = make(map[string]*pattern)
			}
			if p.literal[s.Literal] == nil {
				p.literal[s.Literal] = new(pattern)
			}
			p = p.literal[s.Literal]
		}
	}
	p.exact = append(p.exact, r)
}

// covering calls f with each route whose pattern matches all paths that segments, the pattern of a
// route, matches. This includes the route of segments itself.
func (p *pattern) covering(segments []urlpath.Segment, f func(routeIndex)) {
	if len(segments) == 0 {
		for _, r := range p.exact {
			f(r)
		}
		return
	}
	for _, r := range p.catchAll {
		f(r)
	}
	first, rest := segments[0], segments[1:]
	if next := p.literal[first.Literal]; first.Kind == urlpath.Literal && next != nil {
		next.covering(rest, f)
	}
	if p.parameter != nil && first.Kind != urlpath.CatchAll && (first.Kind == urlpath.Parameter || first.Literal != "") {
		p.parameter.covering(rest, f)
	}
}

// shadowed is a pair of routes of two APIs: by is more specific than route, and matches some paths of
// route.
type shadowed struct{ by, route routeIndex }

// mostShadowed bounds the warnings about the routes of one API that lose paths to other routes.
const mostShadowed = 3

// shadowedRoutes warns of routes that lose paths to a more specific route of another API on the same
// host. Requests for these paths go to another upstream, and the application needs another grant.
func (e *examiner) shadowedRoutes(roots map[rootKey]*pattern) {
	hosts := make(map[shadowed]rootKey)
	for i := range e.cfg.APIs {
		for j := range e.cfg.APIs[i].Routes {
			r := &e.cfg.APIs[i].Routes[j]
			for _, host := range e.cfg.APIs[i].Hosts {
				for _, method := range r.Methods {
					key := rootKey{host, method}
					roots[key].covering(r.Path.Segments(), func(wide routeIndex) {
						s := shadowed{by: routeIndex{i, j}, route: wide}
						if _, known := hosts[s]; !known && wide.api != i {
							hosts[s] = key
						}
					})
				}
			}
		}
	}
	pairs := make([]shadowed, 0, len(hosts))
	for s := range hosts {
		pairs = append(pairs, s)
	}
	slices.SortFunc(pairs, compareShadowed)
	taken := make(map[routeIndex]int)
	for _, s := range pairs {
		taken[s.route]++
	}
	warned := make(map[routeIndex]int)
	for _, s := range pairs {
		more := ""
		switch warned[s.route]++; {
		case warned[s.route] > mostShadowed:
			continue
		case warned[s.route] == mostShadowed && taken[s.route] > mostShadowed:
			more = fmt.Sprintf("; %d more routes of other APIs also are", taken[s.route]-mostShadowed)
		}
		by, key := &e.cfg.APIs[s.by.api], hosts[s]
		e.warn(routePath(s.route), "%s requests on host %s that match %s go to the API %s (line %d), whose route is more specific%s",
			key.method, key.host, strictyaml.Quote(by.Routes[s.by.route].Path.String()), by.Name, e.cfg.Position(routePath(s.by)).Line, more)
	}
}

func compareShadowed(a, b shadowed) int {
	of := func(s shadowed) []int { return []int{s.route.api, s.route.route, s.by.api, s.by.route} }
	return slices.Compare(of(a), of(b))
}
