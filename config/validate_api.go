package config

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// reservedNames are the values that metric labels have for requests without a configured partner, API
// or route.
var reservedNames = []Name{"unknown", "overflow", "unmatched", "none"}

// call is a host, a method and the shape of a path pattern. At most one route can have the same call.
type call struct {
	host   Host
	method Method
	shape  string
}

func (k *checker) apis() {
	list := k.config.APIs
	k.some("apis", len(list), "")
	names := make(map[Name]string, len(list))
	calls := make(map[call]string)
	for i := range list {
		a, path := &list[i], strictyaml.Index("apis", i)
		k.name(path+".name", a.Name)
		unique(k, names, path+".name", "the name", a.Name)
		k.some(path+".hosts", len(a.Hosts), "")
		distinct(k, path+".hosts", a.Hosts)
		k.pathEncoding(path, a)
		k.upstream(path+".upstream", &a.Upstream)
		k.require(path+".binding", a.Binding != "")
		k.some(path+".routes", len(a.Routes), "an empty list offers nothing")
		for j := range a.Routes {
			k.route(strictyaml.Index(path+".routes", j), &a.Routes[j], a, calls)
		}
	}
}

// pathEncoding checks the spellings of segments that a allows. Only parameters of a path can have
// such spellings.
func (k *checker) pathEncoding(path string, a *API) {
	at := path + ".path_encoding"
	distinct(k, at, a.PathEncoding)
	parameter := func(s urlpath.Segment) bool { return s.Kind != urlpath.Literal }
	hasParameter := func(r Route) bool { return slices.ContainsFunc(r.Path.Segments(), parameter) }
	if len(a.PathEncoding) > 0 && !slices.ContainsFunc(a.Routes, hasParameter) && k.decodedFully(path+".routes") {
		k.fault(at, "has no effect: no route of the API has {name} or /**")
	}
}

// name checks the name of a partner or an API.
func (k *checker) name(path string, n Name) {
	k.require(path, n != "")
	if slices.Contains(reservedNames, n) {
		k.fault(path, "%q is reserved: metrics use it", n)
	}
}

// route checks a route. It records a fault if another route has the same host, method and shape of
// the path, because the choice between two such routes would be arbitrary.
func (k *checker) route(path string, r *Route, api *API, calls map[call]string) {
	k.some(path+".methods", len(r.Methods), "an empty list offers nothing")
	distinct(k, path+".methods", r.Methods)
	k.require(path+".path", r.Path.String() != "")
	notEmpty(k, path+".scopes", r.Scopes, "requires nothing; leave it out for a route that needs no scope")
	distinct(k, path+".scopes", r.Scopes)
	if r.Assertion && k.config.IdentityHeaders.Assertion == "" && !k.undecoded("identity_headers.assertion") {
		k.fault(path+".assertion", "needs a header: identity_headers.assertion is empty")
	}
	k.upgrade(path+".upgrade", r, api.Upstream.Protocol)
	k.preflight(path, r)
	if r.Path.String() == "" {
		return
	}
	shape := r.Path.Shape()
	for _, m := range r.Methods {
		for _, h := range api.Hosts {
			if m == "" || h == "" {
				continue // the method could not be decoded
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

// offers returns, by the API's name, the methods in the routes of each API.
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

// apisKnown reports whether the names of all APIs could be decoded. Only then an unknown name is a
// fault.
func (k *checker) apisKnown() bool {
	for i := range k.config.APIs {
		if k.undecoded(strictyaml.Index("apis", i) + ".name") {
			return false
		}
	}
	return !k.undecoded("apis")
}

// routesKnown reports whether the routes of the API could be decoded.
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

func (k *checker) upstream(path string, u *Upstream) {
	k.inRange(path+".timeout", u.Timeout, time.Millisecond, mostTimeout)
	k.inRange(path+".idle_timeout", u.IdleTimeout, time.Millisecond, mostTimeout)
	k.positive(path+".requests", int64(u.Requests))
	if u.URL == nil {
		k.require(path+".url", false)
		return
	}
	secure := u.URL.Scheme == "https"
	switch {
	case u.URL.Socket() != "":
	case u.URL.Path != "" && u.URL.Path != "/":
		k.fault(path+".url", "must have no path: the gate forwards the path of the request")
	case u.URL.RawQuery != "" || u.URL.ForceQuery:
		k.fault(path+".url", "must have no query")
	}
	k.require(path+".protocol", u.Protocol != "")
	switch {
	case u.Protocol == H2 && !secure:
		k.fault(path+".protocol", "h2 is HTTP/2 over TLS and needs an https URL; the name for clear text is h2c")
	case u.Protocol == H2C && secure:
		k.fault(path+".protocol", "h2c is HTTP/2 in clear text; the name over TLS is h2")
	}
	k.upstreamTLS(path+".tls", &u.TLS, secure)
}

func (k *checker) upstreamTLS(path string, t *UpstreamTLS, secure bool) {
	if !secure && !t.isZero() {
		k.fault(path, "has no effect: the URL is not https")
	}
	notEmpty(k, path+".trust", t.Trust, "trusts nothing; leave it out for the system's anchors")
	k.files(path+".trust", t.Trust)
	k.keyPair(path+".certificate", t.Certificate)
}

// upgrade checks the protocols that a client may switch its connection to. HTTP/2 has no upgrades
// (RFC 9113 section 8.6), and a WebSocket begins with GET (RFC 6455 section 4.1).
func (k *checker) upgrade(path string, r *Route, upstream UpstreamProtocol) {
	switch {
	case r.Upgrade == nil:
		return
	case len(r.Upgrade) == 0:
		k.fault(path, "an empty list allows nothing; leave it out for a route without upgrades")
	case upstream == H2 || upstream == H2C:
		k.fault(path, "needs an upstream with protocol http1: HTTP/2 has no upgrades")
	case !slices.Contains(r.Methods, http.MethodGet) && k.decodedFully(strictyaml.Parent(path)+".methods"):
		k.fault(path, "needs the method GET, which opens every WebSocket")
	}
	distinct(k, path, r.Upgrade)
}

// preflight checks that a CORS preflight can match the route at path.
func (k *checker) preflight(path string, r *Route) {
	switch {
	case r.Preflight == "":
	case !slices.Contains(r.Methods, http.MethodOptions) && k.decodedFully(path+".methods"):
		k.fault(path+".preflight", "needs the method OPTIONS, which every preflight has")
	case k.config.Listener.ClientCertificates.OnFailure == Handshake:
		k.fault(path+".preflight", "has no effect with listener.client_certificates.on_failure: handshake: browsers send preflights without a certificate")
	}
}

// clientCert is the only standard name for a forwarded certificate, RFC 9440 section 2.2.
const clientCert HeaderName = "Client-Cert"

func (k *checker) identityHeaders() {
	h := &k.config.IdentityHeaders
	k.prefix("identity_headers.prefix", string(h.Prefix))
	type header struct {
		key  string
		name HeaderName
	}
	named := []header{
		{"partner", h.Partner},
		{"client_id", h.ClientID},
		{"scopes", h.Scopes},
		{"subject", h.Subject},
		{"thumbprint", h.Thumbprint},
	}
	// If no route needs assertions, the default name of the assertion header is not used, and need not
	// begin with the configured prefix.
	if k.asksForAssertion() || k.isSet("identity_headers.assertion") {
		named = append(named, header{"assertion", h.Assertion})
	}
	seen := make(map[HeaderName]string, len(named))
	for _, n := range named {
		path := "identity_headers." + n.key
		unique(k, seen, path, "the header", n.name)
		rest, ok := strings.CutPrefix(string(n.name), string(h.Prefix))
		if n.name != "" && (!ok || rest == "") && !k.undecoded("identity_headers.prefix") {
			// Only for headers with the prefix does the gate remove every spelling from requests.
			k.fault(path, "must begin with the prefix %q and be longer", h.Prefix)
		}
	}
	if h.Certificate != "" && h.Certificate != clientCert {
		k.fault("identity_headers.certificate", "must be %s (RFC 9440 section 2.2), or empty to send none", clientCert)
	}
}

// asksForAssertion reports whether a route has assertion: true.
func (k *checker) asksForAssertion() bool {
	return slices.ContainsFunc(k.config.APIs, func(a API) bool {
		return slices.ContainsFunc(a.Routes, func(r Route) bool { return r.Assertion })
	})
}

// prefix checks that the prefix is not empty, ends with a hyphen, and does not match a header that
// requests need.
func (k *checker) prefix(path, prefix string) {
	switch {
	case prefix == "":
		k.fault(path, "must not be empty")
	case !strings.HasSuffix(prefix, "-"):
		k.fault(path, "must end in a hyphen")
	case reservedWith(prefix) != "":
		k.fault(path, "would remove %s out of every request", reservedWith(prefix))
	}
}
