package config

import (
	"slices"

	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// certificateHeader checks who may pass clients' certificates on, and how.
func (k *checker) certificateHeader(path string, c *ClientCertificates) {
	k.require(path+".from", c.From != "")
	header := path + ".header"
	if c.From != FromHeader {
		if c.Header != nil && !k.undecoded(path+".from") {
			k.fault(header, "is for from: header alone")
		}
		return
	}
	if c.OnFailure == Handshake {
		// The handshake is the front proxy's, and its client may be any.
		k.fault(path+".on_failure", "handshake is for from: tls alone")
	}
	if c.Header == nil {
		k.fault(header, "is required: with from: header, it says whose header counts")
		return
	}
	if len(c.Header.Formats) == 0 {
		k.fault(header+".formats", "at least one is required: nothing else is read")
	}
	distinct(k, header+".formats", c.Header.Formats)
	k.pemHeader(header, c.Header)
	k.trustedProxies(header+".trusted_proxies", &c.Header.TrustedProxies)
}

// ownFields are what the other formats are read from.
var ownFields = []FieldName{FieldName(clientCert), "Client-Cert-Chain", "X-Forwarded-Client-Cert"}

func (k *checker) pemHeader(path string, h *CertificateHeader) {
	named, asked := h.PEMHeader != "", slices.Contains(h.Formats, FormatPEM)
	switch {
	case !k.decodedFully(path + ".formats"):
	case asked && !named:
		k.fault(path+".pem_header", "is required for the format pem")
	case named && !asked:
		k.fault(path+".pem_header", "is for the format pem alone")
	case slices.Contains(ownFields, h.PEMHeader):
		k.fault(path+".pem_header", "%s has a format of its own", h.PEMHeader)
	}
}

// trustedProxies checks that somebody is named, and not everybody (threats: whoever is
// believed here speaks for every partner).
func (k *checker) trustedProxies(path string, t *TrustedProxies) {
	if len(t.Addresses) == 0 && t.Certificates == nil && k.decodedFully(path) {
		k.fault(path, "addresses or certificates are required: nobody is believed by default")
	}
	k.networks(path+".addresses", t.Addresses, 0)
	if t.Certificates == nil {
		return
	}
	path += ".certificates"
	if len(t.Certificates.SANDNS) == 0 {
		k.fault(path+".san_dns", "at least one is required: an anchor may have certified others too")
	}
	for i, name := range t.Certificates.SANDNS {
		if err := certname.CheckDNSName(name); err != nil {
			k.fault(strictyaml.Index(path+".san_dns", i), "%v", err)
		}
	}
	distinct(k, path+".san_dns", t.Certificates.SANDNS)
	if len(t.Certificates.Trust) == 0 {
		k.fault(path+".trust", "at least one is required: those of partners do not count here")
	}
	k.files(path+".trust", t.Certificates.Trust)
}

// The shortest prefixes of networks that somebody can be said to run: the largest
// private ones are 10.0.0.0/8 and fc00::/7.
const (
	shortestIPv4 = 8
	shortestIPv6 = 7
)

// networks checks that the list at path has at least so many, each no wider than a private
// network can be.
func (k *checker) networks(path string, list []Network, least int) {
	if len(list) < least {
		k.fault(path, "at least one is required")
	}
	for i, n := range list {
		shortest := shortestIPv6
		if n.Addr().Is4() {
			shortest = shortestIPv4
		}
		if n.IsValid() && n.Bits() < shortest {
			k.fault(strictyaml.Index(path, i), "%s is too wide to be anybody's: at least /%d is required", n, shortest)
		}
	}
	distinct(k, path, list)
}
