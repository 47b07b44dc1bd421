package config

import (
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// serverCertificate checks that a listener's certificate comes from exactly one place.
func (k *checker) serverCertificate(path string, c *ServerCertificate) {
	switch {
	case c.ACME == nil:
		if !k.undecoded(path + ".acme") {
			k.require(path+".files.certificate", c.Files.Certificate != "")
			k.require(path+".files.key", c.Files.Key != "")
		}
	case c.Files != (KeyPair{}):
		k.fault(path, "files and acme exclude each other")
	default:
		k.acme(path+".acme", c.ACME)
	}
}

func (k *checker) acme(path string, a *ACME) {
	if len(a.Domains) == 0 {
		k.fault(path+".domains", "at least one is required")
	}
	for i, domain := range a.Domains {
		at := strictyaml.Index(path+".domains", i)
		k.require(at, domain != "")
		if domain != "" && !certname.IsDNSName(string(domain)) {
			k.fault(at, "expected a DNS name: a certificate for a wildcard or an IP address comes from files")
		}
	}
	distinct(k, path+".domains", a.Domains)
	k.require(path+".email", a.Email != "")
	switch {
	case a.Directory == nil:
		k.require(path+".directory", false)
	case a.Directory.Scheme != "https":
		k.fault(path+".directory", "must start with https:// (RFC 8555 section 6.1)")
	}
	if a.DirectoryTrust != nil && len(a.DirectoryTrust) == 0 {
		k.fault(path+".directory_trust", "an empty list trusts nothing; leave it out for the system's anchors")
	}
	k.files(path+".directory_trust", a.DirectoryTrust)
	k.require(path+".storage", a.Storage != "")
}
