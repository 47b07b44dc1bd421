package config

import (
	"slices"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// The bounds of an introspection request. They are low because a client's request waits for the
// response.
const (
	leastIntrospection = 10 * time.Millisecond
	mostIntrospection  = 30 * time.Second
	mostConcurrency    = 10_000
)

// introspection checks the introspection settings of the server at path. It records a fault if the
// server's tokens need introspection and the settings are missing.
func (k *checker) introspection(path string, s *AuthorizationServer) {
	in := s.Introspection
	if s.AlsoIntrospect && !s.TakesJWT() {
		k.fault(path+".also_introspect", "has no effect: by tokens%s the server issues no JWTs", k.line(path+".tokens"))
	}
	if s.AlsoIntrospect && k.isOwnIssuer(s.Issuer) {
		k.fault(path+".also_introspect", "must not be set for our own issuer: the gate knows its revocations at once")
	}
	asked := s.TakesOpaque() || s.AlsoIntrospect
	if in == nil {
		if asked && !k.mayBeOwnIssuer(s.Issuer) && !k.undecoded(path+".introspection") {
			k.fault(path, "opaque tokens and also_introspect need introspection")
		}
		return
	}
	switch {
	case k.isOwnIssuer(s.Issuer):
		k.fault(path+".introspection", "must not be set for our own issuer: the gate asks it in this process")
	case !asked && !k.introspectsWhenStale(s) && !k.undecoded(path+".tokens") && !k.undecoded(path+".also_introspect"):
		k.fault(path+".introspection", "has no effect without opaque tokens (tokens: opaque or both), also_introspect or when_stale: introspect")
	}
	path += ".introspection"
	if u := in.Endpoint; u != nil && !s.Connection.Secure(&u.URL) {
		k.fault(path+".endpoint", "must start with https://: the gate sends tokens there and trusts the responses%s", s.Connection.hint(&u.URL))
	}
	k.introspectionAuthentication(path, s)
	k.inRange(path+".timeout", in.Timeout, leastIntrospection, mostIntrospection)
	if in.Concurrency < 1 || in.Concurrency > mostConcurrency {
		k.fault(path+".concurrency", "must be from 1 to %d, is %d", mostConcurrency, in.Concurrency)
	}
	k.introspectionCache(path+".cache", &in.Cache)
}

// introspectionAuthentication checks that the authentication method at path has the settings that the
// method needs, and no settings of other methods.
func (k *checker) introspectionAuthentication(path string, s *AuthorizationServer) {
	a := &s.Introspection.Authentication
	k.require(path+".authentication.method", a.Method != "")
	if a.Method == "" || k.undecoded(path+".authentication.method") {
		return
	}
	if a.Method != MethodBearer {
		k.require(path+".client_id", s.Introspection.ClientID != "")
	}
	if a.Method == MethodTLS && s.Connection.Certificate == (KeyPair{}) && k.decodedFully(strictyaml.Parent(path)+".connection") {
		k.fault(path+".authentication.method", "tls_client_auth needs the gate's own certificate: connection.certificate")
	}
	for _, file := range []struct {
		key      string
		set      bool
		uses     []IntrospectionMethod
		required bool
	}{
		{"secret_file", a.SecretFile != "", []IntrospectionMethod{MethodSecretBasic, MethodSecretPost}, true},
		{"key_file", a.KeyFile != "", []IntrospectionMethod{MethodPrivateKeyJWT}, true},
		{"key_id", a.KeyID != "", []IntrospectionMethod{MethodPrivateKeyJWT}, false},
		{"token_file", a.TokenFile != "", []IntrospectionMethod{MethodBearer}, true},
	} {
		at, used := path+".authentication."+file.key, slices.Contains(file.uses, a.Method)
		switch {
		case used && file.required:
			k.require(at, file.set)
		case !used && file.set:
			k.fault(at, "is for %s only", orList(texts(file.uses)))
		}
	}
}

func (k *checker) introspectionCache(path string, c *IntrospectionCache) {
	k.entries(path+".entries", c.Entries)
	k.entries(path+".inactive_entries", c.InactiveEntries)
	k.inRange(path+".max_age", c.MaxAge, 0, maxTokenLifetime)
	k.inRange(path+".inactive_max_age", c.InactiveMaxAge, 0, time.Hour)
	k.inRange(path+".stale_on_error", c.StaleOnError, 0, maxTokenLifetime)
}

// isOwnIssuer reports whether issuer is the identifier of our own issuer. It returns false if one of
// the two identifiers is unknown.
func (k *checker) isOwnIssuer(issuer Identifier) bool {
	return issuer != "" && k.config.Issuer != nil && k.config.Issuer.Issuer == issuer
}
