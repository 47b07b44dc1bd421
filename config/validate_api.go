package config

import (
	"slices"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// reservedNames are what metrics call a partner or a route that is none of those
// configured.
var reservedNames = []Name{"unknown", "overflow", "unmatched"}

// call is what a request is matched by; shape is that of a path pattern.
type call struct {
	host   Host
	method Method
	shape  string
}

func (k *checker) apis() {
	list := k.config.APIs
	if len(list) == 0 {
		k.fault("apis", "at least one is required")
	}
	names := make(map[Name]string, len(list))
	calls := make(map[call]string)
	for i := range list {
		a, path := &list[i], strictyaml.Index("apis", i)
		k.name(path+".name", a.Name)
		unique(k, names, path+".name", "the name", a.Name)
		if len(a.Hosts) == 0 {
			k.fault(path+".hosts", "at least one is required")
		}
		distinct(k, path+".hosts", a.Hosts)
		k.upstream(path+".upstream", &a.Upstream)
		if len(a.Routes) == 0 {
			k.fault(path+".routes", "at least one is required: an empty list offers nothing")
		}
		for j := range a.Routes {
			k.route(strictyaml.Index(path+".routes", j), &a.Routes[j], a, calls)
		}
	}
}

// name checks the name of a partner or an API.
func (k *checker) name(path string, n Name) {
	k.require(path, n != "")
	if slices.Contains(reservedNames, n) {
		k.fault(path, "%q has a meaning of its own in metrics", n)
	}
}

// route checks a route, and that no call is another route's already: which of the
// two counted would be chance.
func (k *checker) route(path string, r *Route, api *API, calls map[call]string) {
	if len(r.Methods) == 0 {
		k.fault(path+".methods", "at least one is required: an empty list offers nothing")
	}
	distinct(k, path+".methods", r.Methods)
	k.require(path+".path", r.Path.String() != "")
	if r.Scopes != nil && len(r.Scopes) == 0 {
		k.fault(path+".scopes", "an empty list asks for nothing; leave it out for a route that needs no scope")
	}
	distinct(k, path+".scopes", r.Scopes)
	if r.Assertion && k.config.IdentityHeaders.Assertion == "" && !k.undecoded("identity_headers.assertion") {
		k.fault(path+".assertion", "needs a name for the header: identity_headers.assertion is empty")
	}
	k.upgrade(path+".upgrade", r, api.Upstream.Protocol)
	if r.Path.String() == "" {
		return
	}
	shape := r.Path.Shape()
	for _, m := range r.Methods {
		for _, h := range api.Hosts {
			if m == "" || h == "" {
				continue // could not be decoded
			}
			c := call{h, m, shape}
			other, ok := calls[c]
			if ok && other != path {
				k.fault(path, "%s %s on host %s is already offered by %s%s", m, strictyaml.Quote(r.Path.String()), strictyaml.Quote(string(h)), other, k.line(other))
				return
			}
			calls[c] = path
		}
	}
}

// offers returns the methods that the routes of each API offer, by its name.
func (k *checker) offers() map[Name][]Method {
	offered := make(map[Name][]Method, len(k.config.APIs))
	for _, a := range k.config.APIs {
		if a.Name == "" {
			continue
		}
		methods := offered[a.Name]
		for _, r := range a.Routes {
			for _, m := range r.Methods {
				if !slices.Contains(methods, m) {
					methods = append(methods, m)
				}
			}
		}
		offered[a.Name] = methods
	}
	return offered
}

// apisKnown reports whether the name of every API could be decoded, so that a name
// which is none of them is none.
func (k *checker) apisKnown() bool {
	for i := range k.config.APIs {
		if k.undecoded(strictyaml.Index("apis", i) + ".name") {
			return false
		}
	}
	return !k.undecoded("apis")
}

// routesKnown reports whether all that the routes of the API offer could be decoded.
func (k *checker) routesKnown(api Name) bool {
	for i, a := range k.config.APIs {
		if a.Name != api {
			continue
		}
		if !k.decodedFully(strictyaml.Index("apis", i) + ".routes") {
			return false
		}
	}
	return true
}
