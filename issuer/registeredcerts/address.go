package registeredcerts

import (
	"errors"
	"net/netip"
	"slices"
)

var (
	errBlockedAddress = errors.New("a jwks_uri must not be at a loopback, link-local, multicast or reserved address")
	errPrivateAddress = errors.New("a jwks_uri must not be at a private address unless trust is set")
)

// blockedNetworks lists networks in which no client can have a server, in addition to the networks
// that netip recognises. IPv4 addresses embedded in Teredo, local NAT64 and IPv4-compatible addresses
// cannot be checked, so these networks are blocked.
//
// The list is short enough to be reviewed here. A library would replace the prefixes, and not the
// rules about private networks and embedded addresses.
var blockedNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),      // this network and the unspecified address, RFC 1122 section 3.2.1.3
	netip.MustParsePrefix("192.0.0.0/24"),   // protocol assignments, RFC 6890
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved, and the broadcast address
	netip.MustParsePrefix("::/96"),          // IPv4-compatible and the unspecified address, RFC 4291 section 2.5
	netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64, RFC 8215
	netip.MustParsePrefix("2001::/32"),      // Teredo, RFC 4380
}

// privateNetworks lists networks for internal use, in addition to the networks that netip calls
// private (RFC 1918, RFC 4193).
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), // shared address space, RFC 6598
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks, RFC 2544
	netip.MustParsePrefix("fec0::/10"),     // site-local, RFC 3879
}

// Networks whose addresses contain an IPv4 address, to which the packets are forwarded.
var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // the IPv4 address is in the last 4 bytes, RFC 6052 section 2.1
	sixTo4 = netip.MustParsePrefix("2002::/16")    // the IPv4 address is in the 4 bytes after the prefix, RFC 3056 section 2
)

// checkAddress returns nil if a jwks_uri may be fetched from a. It protects servers that only the
// issuer can reach: without it, the publisher of the jwks_uri, or the DNS of its name, could make the
// issuer connect to them. A private address is accepted only with allowPrivate.
func checkAddress(a netip.Addr, allowPrivate bool) error {
	a = a.Unmap().WithZone("") // without a zone, because prefixes contain no addresses with a zone
	if bytes := a.As16(); nat64.Contains(a) {
		a = netip.AddrFrom4([4]byte(bytes[12:]))
	} else if sixTo4.Contains(a) {
		a = netip.AddrFrom4([4]byte(bytes[2:6]))
	}
	contains := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case !a.IsValid(), a.IsLoopback(), a.IsLinkLocalUnicast(), a.IsMulticast(),
		slices.ContainsFunc(blockedNetworks, contains):
		return errBlockedAddress
	case !allowPrivate && (a.IsPrivate() || slices.ContainsFunc(privateNetworks, contains)):
		return errPrivateAddress
	}
	return nil
}
