package config

import (
	"encoding/json"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// registry has the registered names and thumbprints of all clients of one kind, which must be unique.
// Each map has the path of the first client with the value.
type registry struct {
	subjects    map[string]string // by the result of DN.String
	dns         map[string]string // in lower case
	uris        map[certname.URI]string
	ips         map[certname.IP]string
	emails      map[certname.Email]string
	thumbprints map[access.Thumbprint]string
}

func newRegistry() *registry {
	return &registry{map[string]string{}, map[string]string{}, map[certname.URI]string{}, map[certname.IP]string{}, map[certname.Email]string{}, map[access.Thumbprint]string{}}
}

// needsName is the fault of a client with tls_client_auth that has no name.
const needsName = "tls_client_auth at our own issuer needs a name: subject_dn, san_dns, san_uri, san_ip or san_email (RFC 8705 section 2.1.2)"

// names checks the registered certificate at path: it has at most one name, and no other client has
// this name or one of its thumbprints in taken.
func (k *checker) names(path string, r *RegisteredCertificate, taken *registry) {
	if names := r.nameKeys(); len(names) > 1 {
		k.fault(path, "%s exclude each other", andList(names))
	}
	if r.SANDNS != "" {
		if err := certname.CheckDNSName(r.SANDNS); err != nil {
			k.fault(path+".san_dns", "%v", err)
		}
	}
	unique(k, taken.subjects, path+".subject_dn", "the name", r.SubjectDN.String())
	unique(k, taken.dns, path+".san_dns", "the name", strings.ToLower(r.SANDNS))
	unique(k, taken.uris, path+".san_uri", "the name", r.SANURI)
	unique(k, taken.ips, path+".san_ip", "the name", r.SANIP)
	unique(k, taken.emails, path+".san_email", "the name", r.SANEmail)
	for i, t := range r.Thumbprints {
		unique(k, taken.thumbprints, strictyaml.Index(path+".thumbprints", i), "the thumbprint", t)
	}
}

// selfSigned checks the client at path, which authenticates by self_signed_tls_client_auth. The
// client must have exactly one source of registered certificates (RFC 8705 section 2.2.2), and the
// handshake must accept self-signed certificates.
func (k *checker) selfSigned(path string, r *RegisteredCertificate, keys *ClientKeys) {
	const switchPath = "listener.client_certificates.self_signed"
	if !k.config.Listener.ClientCertificates.SelfSigned && !k.undecoded(switchPath) {
		k.fault(path+".authentication", "needs %s: true, or the handshake refuses such certificates", switchPath)
	}
	if r.HasName() {
		k.fault(path+".certificate", "%s is for tls_client_auth only; register the certificates themselves", andList(r.nameKeys()))
	}
	sources := keys.sources()
	if len(r.Thumbprints) > 0 {
		sources = append(sources, "certificate.thumbprints")
	}
	switch known := k.decodedFully(path+".keys") && k.decodedFully(path+".certificate"); {
	case len(sources) > 1:
		k.fault(path, "%s exclude each other", andList(sources))
	case len(sources) == 0 && known:
		k.fault(path, "self_signed_tls_client_auth needs registered certificates: keys.certificates, keys.jwks, keys.jwks_uri or certificate.thumbprints")
	}
	k.keys(path+".keys", keys)
}

// sources returns the keys of the settings in c that register certificates.
func (c *ClientKeys) sources() []string {
	return chosen([]string{"keys.certificates", "keys.jwks", "keys.jwks_uri"}, c.Certificates != nil, c.JWKS != "", c.JWKSURI != nil)
}

func (k *checker) keys(path string, keys *ClientKeys) {
	notEmpty(k, path+".certificates", keys.Certificates, "registers nothing")
	k.files(path+".certificates", keys.Certificates)
	if keys.JWKS != "" {
		k.jwks(path+".jwks", keys.JWKS)
	}
	switch {
	case keys.JWKSURI == nil:
	case keys.JWKSURI.Scheme != "https":
		k.fault(path+".jwks_uri", "must start with https://: a changed key set authenticates another client")
	case k.config.Issuer == nil && !k.undecoded("issuer") && len(keys.sources()) == 1:
		k.fault(path+".jwks_uri", "is fetched only by our own issuer, and no issuer is configured; register the certificates themselves")
	}
	k.fetchTrust(path+".trust", keys.Trust, path+".jwks_uri", keys.JWKSURI)
}

// fetchTrust checks the list of anchors at path. The anchors are for fetches from url, which is the
// setting at urlPath.
func (k *checker) fetchTrust(path string, trust []Path, urlPath string, url *URL) {
	notEmpty(k, path, trust, "trusts nothing; leave it out for the system's anchors")
	if trust != nil && url == nil && !k.undecoded(urlPath) {
		k.fault(path, "has no effect without %s", strings.TrimPrefix(urlPath, strictyaml.Parent(path)+"."))
	}
	k.files(path, trust)
}

// jwks checks that text has the form of a JWK Set with certificates. Package issuer/registeredcerts
// parses the certificates.
func (k *checker) jwks(path, text string) {
	var set struct {
		Keys []struct {
			X5C []string `json:"x5c"`
		} `json:"keys"`
	}
	if json.Unmarshal([]byte(text), &set) != nil || len(set.Keys) == 0 {
		// The message does not quote the text, because it may be a private key.
		k.fault(path, "expected a JWK Set as JSON text, an object with a list of keys (RFC 7517 section 5)")
		return
	}
	for i, key := range set.Keys {
		if len(key.X5C) == 0 {
			k.fault(path, "key %d has no certificate in x5c (RFC 8705 section 2.2.2)", i+1)
		}
	}
}

// noKeys records a fault if a client with tls_client_auth has settings of
// self_signed_tls_client_auth.
func (k *checker) noKeys(path string, keys *ClientKeys) {
	if len(keys.sources()) > 0 || keys.Trust != nil {
		k.fault(path, "is for self_signed_tls_client_auth only")
	}
}
