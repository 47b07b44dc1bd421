package registeredcerts

import (
	"context"
	"net"
	"net/http"
	"net/netip"
)

// Dialable is the judgement on addresses.
var Dialable = checkAddress

// Dialable judges a for the jwks_uri of s.
func (s *Set) Dialable(a netip.Addr) error { return s.remote.checkAddress(a) }

// DialLoopback lets s read its jwks_uri from this machine, as tests must.
func (s *Set) DialLoopback() {
	s.remote.checkAddress = func(netip.Addr) error { return nil }
}

// DialBy lets dial connect s to its jwks_uri.
func (s *Set) DialBy(dial func(context.Context, string, string) (net.Conn, error)) {
	s.remote.client.Transport.(*http.Transport).DialContext = dial
}
