package config

import (
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// The bounds of max_staleness. An issuer sends a heartbeat every 2 s, so that 5 s allow for a late heartbeat
// and for a new connection.
const (
	leastMaxStaleness = 5 * time.Second
	mostMaxStaleness  = 24 * time.Hour
)

// revocations checks the feed of revocations.
func (k *checker) revocations() {
	r := k.config.Revocations
	if r == nil {
		return
	}
	if k.config.Issuer != nil {
		k.fault("revocations", "excludes issuer%s: the gate knows the revocations of an issuer in its own process at once", k.line("issuer"))
	}
	k.require("revocations.server", r.Server != "")
	k.require("revocations.client_id", r.ClientID != "")
	k.inRange("revocations.max_staleness", r.MaxStaleness, leastMaxStaleness, mostMaxStaleness)
	k.feeds("revocations.feeds", r.Feeds)
	k.revocationServer("revocations.server", r)
	if r.WhenStale == IntrospectRevocationsStale {
		k.introspectsAll("revocations.when_stale")
	}
}

// feeds checks the URLs of the feeds.
func (k *checker) feeds(path string, list []URL) {
	notEmpty(k, path, list, "has no feed; leave it out for the feed at the issuer")
	for i := range list {
		u, at := &list[i], strictyaml.Index(path, i)
		switch {
		case *u == URL{}: // it could not be decoded
		case u.Scheme != "https":
			k.fault(at, "must start with https://: the gate authenticates there by its certificate")
		case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			k.fault(at, "must have no query and no fragment: the gate adds its client_id")
		}
	}
	distinct(k, path, list)
}

// revocationServer checks that the server at path is configured and has what the feed needs: keys that
// verify the events, and a certificate that the gate authenticates by.
func (k *checker) revocationServer(path string, r *Revocations) {
	if r.Server == "" || !k.decodedFully("authorization_servers") {
		return // the name may be the name of a server that could not be decoded
	}
	var known []string
	for _, s := range k.config.AuthorizationServers {
		known = append(known, string(s.Name))
	}
	i := slices.Index(known, string(r.Server))
	if i < 0 {
		k.fault(path, "there is no authorization server %q%s", r.Server, strictyaml.DidYouMean(string(r.Server), known))
		return
	}
	s, at := &k.config.AuthorizationServers[i], strictyaml.Index("authorization_servers", i)
	if !s.TakesJWT() {
		k.fault(path, "%s accepts no JWTs by tokens%s, so the gate has no keys to verify the revocations", at, k.line(at+".tokens"))
	}
	if s.Connection.Certificate == (KeyPair{}) {
		k.fault(path, "the gate needs a certificate to authenticate: %s.connection.certificate", at)
	}
	if len(r.Feeds) == 0 && s.Issuer != "" && !strings.HasPrefix(string(s.Issuer), "https://") {
		k.fault(path, "the issuer%s has no https URL: set feeds", k.line(at+".issuer"))
	}
}

// introspectsAll checks that JWTs of every server can be introspected.
func (k *checker) introspectsAll(path string) {
	for i := range k.config.AuthorizationServers {
		s, at := &k.config.AuthorizationServers[i], strictyaml.Index("authorization_servers", i)
		if s.TakesJWT() && s.Introspection == nil && k.decodedFully(at) {
			k.fault(path, "introspect needs %s.introspection%s", at, k.line(at))
		}
	}
}

// introspectsWhenStale reports whether the server's tokens are introspected while revocations may be missing.
func (k *checker) introspectsWhenStale(s *AuthorizationServer) bool {
	return s.SecurityEvents != nil && s.SecurityEvents.WhenStale == IntrospectRevocationsStale ||
		k.config.Revocations != nil && (k.config.Revocations.WhenStale == IntrospectRevocationsStale || k.undecoded("revocations"))
}
