package config

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// The bounds of durations.
const (
	maxLeeway        = 5 * time.Minute // RFC 7519 section 4.1.4: usually no more than a few minutes
	maxTokenLifetime = 24 * time.Hour
	maxKeySetAge     = 30 * 24 * time.Hour // the upper bound of all durations of key sets
)

// tokenTypes are the typ values that an access token can have: the values of RFC 9068 section 4,
// "JWT", and no typ. Older servers use "JWT" or no typ. Neither is a default, because ID tokens also
// have "JWT" or no typ.
var tokenTypes = []string{"at+jwt", "application/at+jwt", "JWT", NoType}

func (k *checker) authorizationServers() {
	list := k.config.AuthorizationServers
	k.some("authorization_servers", len(list), "without one, no token is accepted")
	names := make(map[Name]string)
	issuers := make(map[Identifier]string)
	pushed, states := make(pushPaths), make(map[Path]string)
	for i := range list {
		s, path := &list[i], strictyaml.Index("authorization_servers", i)
		k.require(path+".name", s.Name != "")
		unique(k, names, path+".name", "the name", s.Name)
		k.require(path+".issuer", s.Issuer != "")
		if u, err := url.Parse(string(s.Issuer)); err == nil && s.Issuer != "" && !s.Connection.Secure(u) {
			k.fault(path+".issuer", "%s%s", httpsIdentifier, s.Connection.hint(u))
		}
		unique(k, issuers, path+".issuer", "the issuer", s.Issuer)
		k.texts(path+".audiences", s.Audiences)
		k.some(path+".algorithms", len(s.Algorithms), "an empty list accepts no token")
		distinct(k, path+".algorithms", s.Algorithms)
		k.tokenTypes(path+".types", s.Types)
		k.tokenClaims(path, s)
		k.namespaced(path, s)
		k.inRange(path+".leeway", s.Leeway, 0, maxLeeway)
		k.connection(path+".connection", s)
		k.keySet(path+".key_set", s)
		k.introspection(path, s)
		k.securityEvents(path, s, pushed)
		if s.SecurityEvents != nil {
			unique(k, states, path+".security_events.state", "the folder", s.SecurityEvents.State)
		}
		k.speaksFor(path+".partners", s)
		k.entries(path+".cache.entries", s.Cache.Entries)
	}
}

// speaksFor checks that the partners in the list of s are configured.
func (k *checker) speaksFor(path string, s *AuthorizationServer) {
	notEmpty(k, path, s.Partners, "allows no partner; leave it out for all partners")
	distinct(k, path, s.Partners)
	if !k.decodedFully("partners") {
		return // the name may be the name of a partner that could not be decoded
	}
	known := make([]string, len(k.config.Partners.List))
	for i := range known {
		known[i] = string(k.config.Partners.List[i].Name)
	}
	for i, name := range s.Partners {
		if name != "" && !slices.Contains(known, string(name)) {
			k.fault(strictyaml.Index(path, i), "there is no partner %q%s", name, strictyaml.DidYouMean(string(name), known))
		}
	}
}

// entries checks the size of a cache.
func (k *checker) entries(path string, n int) {
	if n < 0 {
		k.fault(path, "must be 0 (no cache) or more, is %d", n)
	}
}

// texts checks a list of values. Members of a token are compared with these values.
func (k *checker) texts(path string, list []string) {
	k.some(path, len(list), "an empty list accepts no token")
	for i, s := range list {
		k.text(strictyaml.Index(path, i), s)
	}
	distinct(k, path, list)
}

// text checks a value that a member of a token is compared with, or that a member of a token gets.
func (k *checker) text(path, s string) {
	switch {
	case s == "":
		k.fault(path, "must not be empty")
	case strings.TrimSpace(s) != s || strings.ContainsFunc(s, unicode.IsControl):
		k.fault(path, "must not begin or end with a space, nor have control characters")
	}
}

func (k *checker) tokenTypes(path string, list []string) {
	k.some(path, len(list), "an empty list accepts no token")
	for i, s := range list {
		known := slices.ContainsFunc(tokenTypes, func(t string) bool { return s == t || t != NoType && strings.EqualFold(s, t) })
		if !known {
			k.fault(strictyaml.Index(path, i), "expected %s, got %s%s", orList(tokenTypes), strictyaml.Quote(s), strictyaml.DidYouMean(s, tokenTypes))
		}
	}
	distinct(k, path, list)
}

// connection checks the connection settings of s. It records a fault for settings that would have no
// effect.
func (k *checker) connection(path string, s *AuthorizationServer) {
	c := &s.Connection
	notEmpty(k, path+".trust", c.Trust, "trusts nothing; leave it out for the system's anchors")
	k.files(path+".trust", c.Trust)
	k.keyPair(path+".certificate", c.Certificate)
	for i, h := range c.InsecureHTTPHosts {
		if h != "" && (!isServiceName(string(h)) || strings.Contains(string(h), "*")) {
			k.fault(strictyaml.Index(path+".insecure_http_hosts", i), "must be a service of the cluster: a name of one label, or one that ends in .svc or .svc.cluster.local")
		}
	}
	distinct(k, path+".insecure_http_hosts", c.InsecureHTTPHosts)
	if c.Proxy != nil && c.Proxy.Scheme != "http" {
		k.fault(path+".proxy", "must start with http://: the proxy forwards TLS, which ends at the server")
	}
	if c.Proxy != nil && c.ProxyFromEnvironment {
		k.fault(path, "proxy and proxy_from_environment exclude each other")
	}
	set := &s.KeySet
	streams := k.config.Revocations != nil && (k.config.Revocations.Server == s.Name || k.undecoded("revocations"))
	used := set.URL != nil || s.Introspection != nil || s.Polls() || streams || !set.Named() && !k.mayBeOwnIssuer(s.Issuer)
	if !used && k.isSet(path) && k.decodedFully(strictyaml.Parent(path)) {
		k.fault(path, "has no effect: nothing is fetched from this server")
	}
}

// keySet checks that the key set of s has at most one source.
func (k *checker) keySet(path string, s *AuthorizationServer) {
	set := &s.KeySet
	if named := set.sources(); len(named) > 1 {
		k.fault(path, "%s exclude each other", andList(named))
	}
	if set.Named() && !s.NeedsKeys() && k.decodedFully(strictyaml.Parent(path)) {
		k.fault(path, "has no effect without JWTs, signed introspection responses or security_events")
	}
	if set.URL != nil && !s.Connection.Secure(&set.URL.URL) {
		k.fault(path+".url", "must start with https://: a changed key set accepts forged tokens%s", s.Connection.hint(&set.URL.URL))
	}
	if set.JWKS != "" && !isJWKSet(set.JWKS) {
		// The message does not quote the text, because it may be a private key.
		k.fault(path+".jwks", "expected a JWK Set as JSON text, an object with a list of keys (RFC 7517 section 5)")
	}
	k.inRange(path+".refresh", set.Refresh, time.Second, maxKeySetAge)
	k.inRange(path+".cool_down", set.CoolDown, time.Second, maxKeySetAge)
	if k.undecoded(path + ".refresh") {
		return
	}
	k.inRange(path+".max_stale", set.MaxStale, set.Refresh, maxKeySetAge) // with a shorter max_stale, keys would expire before the next fetch
}

// sources returns the keys of the settings that contain the key set or say where it is.
func (s *KeySet) sources() []string {
	return chosen([]string{"url", "file", "jwks"}, s.URL != nil, s.File != "", s.JWKS != "")
}

// isJWKSet reports whether text has the form of a JWK Set. Package internal/jwks parses the keys.
func isJWKSet(text string) bool {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	return json.Unmarshal([]byte(text), &set) == nil && len(set.Keys) > 0
}

// mayBeOwnIssuer reports whether issuer is the identifier of our own issuer. It also returns true if
// one of the two identifiers could not be decoded.
func (k *checker) mayBeOwnIssuer(issuer Identifier) bool {
	if issuer == "" || k.undecoded("issuer.issuer") {
		return true
	}
	return k.config.Issuer != nil && k.config.Issuer.Issuer == issuer
}
