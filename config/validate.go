package config

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Validate judges the tree: what is required is there, numbers are sane, names are
// unique, references resolve, and nothing that decides about access is left empty.
// It opens no file and changes nothing. The error is [Faults], all there are.
func (c *Config) Validate() error { return c.check().Err() }

// check returns what is wrong with c, except for what only follows from a value at
// a path in failed, which could not be decoded.
func (c *Config) check() Faults {
	k := &checker{config: c, clients: make(map[ClientID]string)}
	k.listener()
	k.authorizationServers()
	k.apis()
	k.partners()
	k.identityHeaders()
	k.issuer()
	k.addresses()
	k.inRange("drain.delay", k.config.Drain.Delay, 0, mostDrain)
	k.inRange("drain.timeout", k.config.Drain.Timeout, time.Millisecond, mostDrain)
	return k.faults
}

// checker collects what is wrong with a tree.
type checker struct {
	config  *Config
	clients map[ClientID]string // where each was first, application or resource server
	faults  Faults
}

// fault records what is wrong with the value at path, unless it is a consequence
// of what could not be decoded.
func (k *checker) fault(path, format string, args ...any) {
	if k.undecoded(path) {
		return
	}
	k.faults = append(k.faults, Fault{
		Position: k.config.Position(path),
		Path:     path,
		Message:  fmt.Sprintf(format, args...),
	})
}

// undecoded reports whether the value at path, or a value around it, could not be decoded.
func (k *checker) undecoded(path string) bool { return k.config.source.Failed(path) }

// decodedFully reports whether the value at path and all values inside it could be decoded.
func (k *checker) decodedFully(path string) bool { return k.config.source.Complete(path) }

// isSet reports whether the file has a value at path.
func (k *checker) isSet(path string) bool { return k.config.source.Has(path) }

// require records a fault unless there is a value at path.
func (k *checker) require(path string, present bool) {
	if !present {
		k.fault(path, "is required")
	}
}

// inRange records a fault unless least <= value <= most.
func (k *checker) inRange(path string, value, least, most time.Duration) {
	if value < least || value > most {
		k.fault(path, "must be from %v to %v, is %v", least, most, value)
	}
}

// positive records a fault unless value is at least 1.
func (k *checker) positive(path string, value int64) {
	if value < 1 {
		k.fault(path, "must be at least 1, is %d", value)
	}
}

// line returns where the value at path stands, for a message about another value;
// without a file, nothing.
func (k *checker) line(path string) string {
	if at := k.config.Position(path); at.Line > 0 {
		return fmt.Sprintf(" on line %d", at.Line)
	}
	return ""
}

// unique records, in seen, that the value at path is v, and a fault if another
// value was before. what says what v is, such as "the name". The zero value is
// none: it could not be decoded, or is missing.
func unique[T comparable](k *checker, seen map[T]string, path, what string, v T) {
	var zero T
	if v == zero {
		return
	}
	if first, ok := seen[v]; ok {
		k.fault(path, "%s %s is already that of %s%s", what, strictyaml.Quote(fmt.Sprint(v)), first, k.line(first))
		return
	}
	seen[v] = path
}

// distinct records a fault for every element of the list at path that an earlier
// one equals.
func distinct[T comparable](k *checker, path string, list []T) {
	if len(list) < 2 {
		return
	}
	var zero T
	seen := make(map[T]int, len(list))
	for i, v := range list {
		first, ok := seen[v]
		switch {
		case v == zero: // could not be decoded, or is a fault already
		case ok:
			k.fault(strictyaml.Index(path, i), "is the same as %s", strictyaml.Index(path, first))
		default:
			seen[v] = i
		}
	}
}

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

// The least and most that a limit may be.
const (
	leastHeaderBytes = 4 << 10 // a token of 2 KiB, a target and what browsers send
	mostHeaderBytes  = 1 << 20 // beyond which a header is an attack
	mostTimeout      = 24 * time.Hour
	mostDrain        = time.Hour // beyond which no supervisor waits
)

func (k *checker) limits(path string, l *Limits) {
	if l.HeaderBytes < leastHeaderBytes || l.HeaderBytes > mostHeaderBytes {
		k.fault(path+".header_bytes", "must be from %dKiB to %dKiB, is %d bytes", leastHeaderBytes>>10, mostHeaderBytes>>10, l.HeaderBytes)
	}
	k.positive(path+".body_bytes", int64(l.BodyBytes))
	k.positive(path+".connections", int64(l.Connections))
	k.positive(path+".connections_per_address", int64(l.ConnectionsPerAddress))
	k.positive(path+".requests", int64(l.Requests))
	// A timeout of nothing would be none at all to net/http.
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
				k.fault(path+name, "count for lists only, and there is none")
			}
		}
	}
	k.inRange(path+".refresh", r.Refresh, leastRefresh, mostTimeout)
	k.require(path+".when_stale", r.WhenStale != "")
}

// leastRefresh keeps a mistyped unit from flooding whoever publishes a list.
const leastRefresh = time.Second

// files records a fault for every path of the list that names no file, and for one
// that is named twice.
func (k *checker) files(path string, list []Path) {
	for i, p := range list {
		k.require(strictyaml.Index(path, i), p != "")
	}
	distinct(k, path, list)
}

// addresses checks that no two listeners take the same address.
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
			k.fault(strictyaml.Index("admin.hosts", i), "name each host: a wildcard would let in names that others control")
		}
	}
	distinct(k, "admin.hosts", k.config.Admin.Hosts)
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

// overlap reports whether the second of two listeners would find its port taken.
// Port 0 is a different free one each time.
func overlap(a, b Address) bool {
	hostA, portA, errA := net.SplitHostPort(string(a))
	hostB, portB, errB := net.SplitHostPort(string(b))
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || isWildcard(hostA) || isWildcard(hostB)
}

// isWildcard reports whether a listener on host takes every address.
func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
