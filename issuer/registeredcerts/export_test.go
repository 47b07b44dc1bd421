package registeredcerts

import (
	"context"
	"net"
	"net/http"
	"net/netip"
)

// Dialable is checkAddress.
var Dialable = checkAddress

// Dialable reports, as checkAddress does, whether s may fetch its jwks_uri from the address a.
func (s *Set) Dialable(a netip.Addr) error { return s.remote.checkAddress(a) }

// DialLoopback allows s to fetch its jwks_uri from loopback, as tests must.
func (s *Set) DialLoopback() {
	s.remote.checkAddress = func(netip.Addr) error { return nil }
}

// DialBy makes s connect to its jwks_uri with dial.
func (s *Set) DialBy(dial func(context.Context, string, string) (net.Conn, error)) {
	s.remote.client.Transport.(*http.Transport).DialContext = dial
}
