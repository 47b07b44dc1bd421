package config

import (
	"net/http"
	"slices"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

func (k *checker) upstream(path string, u *Upstream) {
	k.inRange(path+".timeout", u.Timeout, time.Millisecond, mostTimeout)
	k.positive(path+".requests", int64(u.Requests))
	if u.URL == nil {
		k.require(path+".url", false)
		return
	}
	secure := u.URL.Scheme == "https"
	switch {
	case u.URL.Socket() != "":
	case u.URL.Path != "" && u.URL.Path != "/":
		k.fault(path+".url", "must have no path: the path that was matched is the one forwarded")
	case u.URL.RawQuery != "" || u.URL.ForceQuery:
		k.fault(path+".url", "must have no query")
	}
	k.require(path+".protocol", u.Protocol != "")
	switch {
	case u.Protocol == H2 && !secure:
		k.fault(path+".protocol", "h2 is HTTP/2 over TLS and needs an https URL; in clear text it is h2c")
	case u.Protocol == H2C && secure:
		k.fault(path+".protocol", "h2c is HTTP/2 in clear text; over TLS it is h2")
	}
	k.upstreamTLS(path+".tls", &u.TLS, secure)
}

func (k *checker) upstreamTLS(path string, t *UpstreamTLS, secure bool) {
	if !secure && !t.isZero() {
		k.fault(path, "counts for https only, and the URL is not")
	}
	if t.Trust != nil && len(t.Trust) == 0 {
		k.fault(path+".trust", "an empty list trusts nothing; leave it out for the system's anchors")
	}
	k.files(path+".trust", t.Trust)
	k.require(path+".certificate.certificate", t.Certificate.Certificate != "" || t.Certificate.Key == "")
	k.require(path+".certificate.key", t.Certificate.Key != "" || t.Certificate.Certificate == "")
}

// upgrade checks what a connection on a route may be switched to. HTTP/2 has no upgrades
// (RFC 9113 section 8.6), and a WebSocket begins with GET (RFC 6455 section 4.1).
func (k *checker) upgrade(path string, r *Route, upstream UpstreamProtocol) {
	switch {
	case r.Upgrade == nil:
		return
	case len(r.Upgrade) == 0:
		k.fault(path, "an empty list allows nothing; leave it out for a route without upgrades")
	case upstream == H2 || upstream == H2C:
		k.fault(path, "needs an upstream that is spoken to over http1: HTTP/2 has no upgrades")
	case !slices.Contains(r.Methods, http.MethodGet) && k.decodedFully(strictyaml.Parent(path)+".methods"):
		k.fault(path, "needs the method GET: every WebSocket begins with it")
	}
	distinct(k, path, r.Upgrade)
}
