package config

import (
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// The bounds of the time that a generated signing key signs. A key stays published while tokens that
// it signed can be valid. If tokens are valid for 24 hours and keys sign for an hour, 24 retired
// keys, the active key and the next key are published. Verifiers accept a key set of 26 keys.
const (
	leastRotation = time.Hour
	mostRotation  = 366 * 24 * time.Hour // a year
)

// signingAlgorithms are the algorithms that our own issuer can sign with.
var signingAlgorithms = []Algorithm{ES256, PS256, RS256, EdDSA}

func (k *checker) issuer() {
	own := k.config.Issuer
	if own == nil {
		return
	}
	k.require("issuer.issuer", own.Issuer != "")
	if own.Issuer != "" && !strings.HasPrefix(string(own.Issuer), "https://") {
		k.fault("issuer.issuer", "%s", httpsIdentifier)
	}
	k.ownServer(own)
	k.require("issuer.address", own.Address != "")
	k.alias("issuer.mtls_alias", own.MTLSAlias)
	// If neither file is set, the default is the certificate of the partners' listener.
	k.keyPair("issuer.certificate.files", own.Certificate.Files)
	k.state(own)
	k.signing("issuer.signing", &own.Signing)
	k.text("issuer.audience", own.Audience)
	k.resources("issuer.resources", own.Resources)
	k.inRange("issuer.max_token_lifetime", own.MaxTokenLifetime, time.Second, maxTokenLifetime)
	k.inRange("issuer.token_lifetime", own.TokenLifetime, time.Second, k.longestToken())
	k.resourceServers(own.ResourceServers)
	k.operators(own.Operators)
	k.governance(&own.Governance)
	k.rate("issuer.limits.per_client", own.Limits.PerClient)
	k.rate("issuer.limits.per_address", own.Limits.PerAddress)
}

// ownServer checks that an entry of authorization_servers is our own issuer, and that the entry
// accepts the issuer's signing algorithm. It records no fault if an entry could not be decoded.
func (k *checker) ownServer(own *Issuer) {
	if own.Issuer == "" || k.undecoded("authorization_servers") {
		return
	}
	for i, s := range k.config.AuthorizationServers {
		path := strictyaml.Index("authorization_servers", i)
		if k.undecoded(path + ".issuer") {
			return
		}
		if s.Issuer != own.Issuer {
			continue
		}
		if a := own.Signing.Algorithm; slices.Contains(signingAlgorithms, a) && !slices.Contains(s.Algorithms, a) && k.decodedFully(path+".algorithms") {
			k.fault("issuer.signing.algorithm", "%s is not among %s.algorithms%s: the tokens would be refused", a, path, k.line(path+".algorithms"))
		}
		return
	}
	k.fault("issuer.issuer", "no entry of authorization_servers has this issuer: its tokens would be refused")
}

// alias checks the separate listener for clients, if the configuration has an mTLS alias.
func (k *checker) alias(path string, alias *MTLSAlias) {
	if alias == nil {
		return
	}
	k.require(path+".address", alias.Address != "")
	switch u := alias.URL; {
	case u == nil:
		k.require(path+".url", false)
	case u.Scheme != "https":
		k.fault(path+".url", "must start with https://: clients authenticate there by a certificate")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery:
		k.fault(path+".url", "must have no path and no query: the endpoints have the same paths as at the issuer")
	}
}

func (k *checker) signing(path string, s *Signing) {
	if s.Algorithm != "" && !slices.Contains(signingAlgorithms, s.Algorithm) {
		k.fault(path+".algorithm", "expected %s, got %s", orList(texts(signingAlgorithms)), strictyaml.Quote(string(s.Algorithm)))
	}
	k.require(path+".algorithm", s.Algorithm != "")
	notEmpty(k, path+".files", s.Files, "signs nothing; leave it out for keys of the issuer's own")
	if len(s.Files) > 0 && k.isSet(path+".rotate") {
		k.fault(path+".rotate", "has no effect: files%s replaces the issuer's own keys", k.line(path+".files"))
	}
	k.files(path+".files", s.Files)
	k.inRange(path+".rotate", s.Rotate, leastRotation, mostRotation)
}

// longestToken returns the upper bound of every token lifetime: the configured bound, or the
// greatest possible bound if the configured bound is invalid.
func (k *checker) longestToken() time.Duration {
	own := k.config.Issuer
	if own == nil || own.MaxTokenLifetime < time.Second || k.undecoded("issuer.max_token_lifetime") {
		return maxTokenLifetime
	}
	return min(own.MaxTokenLifetime, maxTokenLifetime)
}

func (k *checker) resourceServers(list []ResourceServer) {
	// Resource servers have a registry of their own, because an API that calls other APIs has two
	// roles: it is an application and a resource server, with a client_id for each role and one
	// certificate for both.
	taken := newRegistry()
	for i := range list {
		s, path := &list[i], strictyaml.Index("issuer.resource_servers", i)
		k.require(path+".client_id", s.ClientID != "")
		unique(k, k.clients, path+".client_id", "the client_id", s.ClientID)
		k.names(path+".certificate", &s.Certificate, taken)
		k.require(path+".authentication", s.Authentication != "")
		if s.Authentication == SelfSignedTLSClientAuth {
			k.selfSigned(path, &s.Certificate, &s.Keys)
		} else {
			k.named(path, s)
		}
		k.files(path+".trust", s.Trust)
		notEmpty(k, path+".trust", s.Trust, "trusts nothing; leave it out for the listener's anchors")
		k.some(path+".resources", len(s.Resources), "a resource server may introspect only tokens for its resources")
		k.resources(path+".resources", s.Resources)
	}
}

// named checks that the resource server at path has a name and anchors. The resource server
// authenticates by tls_client_auth.
func (k *checker) named(path string, s *ResourceServer) {
	k.noKeys(path+".keys", &s.Keys)
	if !s.Certificate.HasName() && k.decodedFully(path+".certificate") {
		k.fault(path+".certificate", "%s", needsName)
	}
	if len(s.Certificate.Thumbprints) > 0 {
		k.fault(path+".certificate.thumbprints", "is for self_signed_tls_client_auth only")
	}
	shared := k.config.Listener.ClientCertificates.Trust
	if s.Trust == nil && len(shared) == 0 && !k.undecoded("listener.client_certificates.trust") {
		k.fault(path+".trust", "is required: listener.client_certificates has no trust to fall back on")
	}
}

// resources checks the resources at path.
func (k *checker) resources(path string, list []string) {
	for i, r := range list {
		if r != k.config.Issuer.Audience && !isResource(r) {
			k.fault(strictyaml.Index(path, i), "expected issuer.audience or an absolute URI without fragment (RFC 8707 section 2)")
		}
	}
	distinct(k, path, list)
}

func (k *checker) rate(path string, r Rate) {
	k.positive(path+".requests_per_second", int64(r.RequestsPerSecond))
	k.positive(path+".burst", int64(r.Burst))
}
