package config

import (
	"net/url"

	"github.com/tallygate/tallygate/internal/certname"
)

// ACME says how a listener's certificates are obtained and renewed, RFC 8555. Using it
// agrees to the terms of service of the authority behind Directory.
type ACME struct {
	// Domains get a certificate each. A client is shown that of the domain that it asks
	// for, or else that of the first. At least one; no wildcards, no IP addresses.
	Domains   []Host         `yaml:"domains"`
	Email     certname.Email `yaml:"email"`     // where the authority reaches the operator
	Directory *URL           `yaml:"directory"` // of the authority: https; default Let's Encrypt
	// DirectoryTrust lists PEM files with the anchors of the directory's own certificate,
	// for an authority in one's own network. Default: the system's.
	DirectoryTrust []Path `yaml:"directory_trust"`
	Storage        Path   `yaml:"storage"` // a folder of its own: the account, the certificates, their keys
	// HTTPAddress is a listener for HTTP-01 (RFC 8555 section 8.3). Without it the
	// partners' listener proves the domains by TLS-ALPN-01 (RFC 8737). Optional.
	HTTPAddress Address `yaml:"http_address"`
}

func defaultACME() ACME {
	return ACME{Directory: &URL{url.URL{Scheme: "https", Host: "acme-v02.api.letsencrypt.org", Path: "/directory"}}}
}

// httpAddress returns the address of the listener for HTTP-01, "" for none.
func (a *ACME) httpAddress() Address {
	if a == nil {
		return ""
	}
	return a.HTTPAddress
}
