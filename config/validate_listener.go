package config

import (
	"net"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

func (k *checker) listener() {
	l := &k.config.Listener
	k.require("listener.address", l.Address != "")
	k.serverCertificate("listener.certificate", &l.Certificate)
	k.require("listener.minimum_version", l.MinimumVersion != 0)
	k.require("listener.client_certificates.on_failure", l.ClientCertificates.OnFailure != "")
	k.files("listener.client_certificates.trust", l.ClientCertificates.Trust)
	k.revocation("listener.client_certificates.revocation", &l.ClientCertificates.Revocation)
	k.certificateHeader("listener.client_certificates", &l.ClientCertificates)
	if l.ProxyProtocol != nil {
		k.networks("listener.proxy_protocol.trusted", l.ProxyProtocol.Trusted, 1)
	}
	k.limits("listener.limits", &l.Limits)
}

// The bounds of limits.
const (
	leastHeaderBytes = 4 << 10 // enough for a token of 2 KiB, a target and the headers of browsers
	mostHeaderBytes  = 1 << 20 // larger headers are attacks
	mostTimeout      = 24 * time.Hour
	mostDrain        = time.Hour // no supervisor waits longer for a process to stop
)

func (k *checker) limits(path string, l *Limits) {
	if l.HeaderBytes < leastHeaderBytes || l.HeaderBytes > mostHeaderBytes {
		k.fault(path+".header_bytes", "must be from %dKiB to %dKiB, is %d bytes", leastHeaderBytes>>10, mostHeaderBytes>>10, l.HeaderBytes)
	}
	k.positive(path+".body_bytes", int64(l.BodyBytes))
	k.positive(path+".connections", int64(l.Connections))
	k.positive(path+".connections_per_address", int64(l.ConnectionsPerAddress))
	k.positive(path+".requests", int64(l.Requests))
	// In net/http, a timeout of 0 means no timeout.
	k.inRange(path+".handshake_timeout", l.HandshakeTimeout, time.Millisecond, mostTimeout)
	k.inRange(path+".header_timeout", l.HeaderTimeout, time.Millisecond, mostTimeout)
	k.inRange(path+".stall_timeout", l.StallTimeout, time.Millisecond, mostTimeout)
	k.inRange(path+".idle_timeout", l.IdleTimeout, time.Millisecond, mostTimeout)
}

func (k *checker) revocation(path string, r *Revocation) {
	texts := make([]string, len(r.Lists))
	for i, l := range r.Lists {
		texts[i] = string(l.File)
		if l.URL != nil {
			texts[i] = l.URL.URL.String()
		}
		k.require(strictyaml.Index(path+".lists", i), texts[i] != "")
	}
	distinct(k, path+".lists", texts)
	k.files(path+".authorities", r.Authorities)
	k.files(path+".exempt", r.Exempt)
	if len(r.Lists) == 0 && !k.undecoded(path+".lists") {
		for name, list := range map[string][]Path{".authorities": r.Authorities, ".exempt": r.Exempt} {
			if len(list) > 0 {
				k.fault(path+name, "has no effect without lists")
			}
		}
	}
	k.inRange(path+".refresh", r.Refresh, leastRefresh, mostTimeout)
	k.require(path+".when_stale", r.WhenStale != "")
}

// leastRefresh is a lower bound, so that a mistyped unit does not flood the server that publishes a
// list with requests.
const leastRefresh = time.Second

// serverCertificate checks that a listener's certificate comes either from files or from ACME.
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
	k.some(path+".domains", len(a.Domains), "")
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
	notEmpty(k, path+".directory_trust", a.DirectoryTrust, "trusts nothing; leave it out for the system's anchors")
	k.files(path+".directory_trust", a.DirectoryTrust)
	k.require(path+".storage", a.Storage != "")
}

// certificateHeader checks the settings for front proxies.
func (k *checker) certificateHeader(path string, c *ClientCertificates) {
	k.require(path+".from", c.From != "")
	header := path + ".header"
	if c.From != FromHeader {
		if c.Header != nil && !k.undecoded(path+".from") {
			k.fault(header, "is for from: header only")
		}
		return
	}
	if c.OnFailure == Handshake {
		// The gate cannot refuse a client in the front proxy's handshake, because the client takes no
		// part in this handshake.
		k.fault(path+".on_failure", "handshake is for from: tls only")
	}
	if c.Header == nil {
		k.fault(header, "is required with from: header: it names the trusted proxies")
		return
	}
	k.some(header+".formats", len(c.Header.Formats), "the gate reads no other format")
	distinct(k, header+".formats", c.Header.Formats)
	k.pemHeader(header, c.Header)
	k.trustedProxies(header+".trusted_proxies", &c.Header.TrustedProxies)
}

// ownFields are the headers of the formats rfc9440 and xfcc.
var ownFields = []FieldName{FieldName(clientCert), "Client-Cert-Chain", "X-Forwarded-Client-Cert"}

func (k *checker) pemHeader(path string, h *CertificateHeader) {
	named, asked := h.PEMHeader != "", slices.Contains(h.Formats, FormatPEM)
	switch {
	case !k.decodedFully(path + ".formats"):
	case asked && !named:
		k.fault(path+".pem_header", "is required for the format pem")
	case named && !asked:
		k.fault(path+".pem_header", "is for the format pem only")
	case slices.Contains(ownFields, h.PEMHeader):
		k.fault(path+".pem_header", "%s belongs to another format", h.PEMHeader)
	}
}

// trustedProxies checks that at least one proxy is trusted, and that not every sender is trusted: a
// trusted proxy can present the certificate of any partner.
func (k *checker) trustedProxies(path string, t *TrustedProxies) {
	if len(t.Addresses) == 0 && t.Certificates == nil && k.decodedFully(path) {
		k.fault(path, "addresses or certificates are required: no proxy is trusted by default")
	}
	k.networks(path+".addresses", t.Addresses, 0)
	if t.Certificates == nil {
		return
	}
	path += ".certificates"
	k.some(path+".san_dns", len(t.Certificates.SANDNS), "the anchors may have certified other servers too")
	for i, name := range t.Certificates.SANDNS {
		if err := certname.CheckDNSName(name); err != nil {
			k.fault(strictyaml.Index(path+".san_dns", i), "%v", err)
		}
	}
	distinct(k, path+".san_dns", t.Certificates.SANDNS)
	k.some(path+".trust", len(t.Certificates.Trust), "partners' anchors are not used here")
	k.files(path+".trust", t.Certificates.Trust)
}

// The shortest prefixes of networks that a single operator can own. The largest private networks
// are 10.0.0.0/8 and fc00::/7.
const (
	shortestIPv4 = 8
	shortestIPv6 = 7
)

// networks checks that the list at path has no fewer networks than least, and that each network is no
// larger than a private network.
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
			k.fault(strictyaml.Index(path, i), "%s is wider than any private network: the prefix must be at least /%d", n, shortest)
		}
	}
	distinct(k, path, list)
}

// addresses checks that no two listeners have the same address.
func (k *checker) addresses() {
	type listener struct {
		path    string
		address Address
	}
	all := []listener{
		{"listener.address", k.config.Listener.Address},
		{"admin.address", k.config.Admin.Address},
	}
	k.require("admin.address", k.config.Admin.Address != "")
	for i, h := range k.config.Admin.Hosts {
		if strings.HasPrefix(string(h), "*.") {
			k.fault(strictyaml.Index("admin.hosts", i), "name each host: a wildcard would match names that other people control")
		}
	}
	distinct(k, "admin.hosts", k.config.Admin.Hosts)
	if c := k.config.Admin.Console; c != nil {
		k.console("admin.console.address", c.Address)
		all = append(all, listener{"admin.console.address", c.Address})
	}
	if address := k.config.Listener.Certificate.ACME.httpAddress(); address != "" {
		all = append(all, listener{"listener.certificate.acme.http_address", address})
	}
	if k.config.Issuer != nil {
		all = append(all, listener{"issuer.address", k.config.Issuer.Address})
		if alias := k.config.Issuer.MTLSAlias; alias != nil {
			all = append(all, listener{"issuer.mtls_alias.address", alias.Address})
		}
	}
	for i, l := range all {
		for _, other := range all[:i] {
			if overlap(l.address, other.address) && !k.undecoded(other.path) {
				k.fault(l.path, "%s takes the port that %s has at %s", strictyaml.Quote(string(l.address)), other.path, strictyaml.Quote(string(other.address)))
			}
		}
	}
}

// console checks that the console is on loopback.
func (k *checker) console(path string, address Address) {
	host, _, err := net.SplitHostPort(string(address))
	ip := net.ParseIP(host)
	if err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		k.fault(path, "must be a loopback address, such as 127.0.0.1:9091, because the console has no login; "+
			"reach it by kubectl port-forward POD 9091:9091, or by ssh -L 9091:127.0.0.1:9091 HOST")
	}
	k.require(path, address != "")
}

// overlap reports whether the second of two listeners would find its port in use. Each listener with
// port 0 gets a different free port.
func overlap(a, b Address) bool {
	hostA, portA, errA := net.SplitHostPort(string(a))
	hostB, portB, errB := net.SplitHostPort(string(b))
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || isWildcard(hostA) || isWildcard(hostB)
}

// isWildcard reports whether a listener with this host listens on every address.
func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
