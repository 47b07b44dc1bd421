package registeredcerts

import (
	"errors"
	"net/netip"
	"slices"
)

var (
	errBlockedAddress = errors.New("no jwks_uri is read from this address: it is this machine's, link-local, multicast or reserved")
	errPrivateAddress = errors.New("no jwks_uri is read from a private address unless its trust is set")
)

// blockedNetworks are the networks, beside those that netip can name, in which no server
// of a client is. The address that stands within Teredo, the local NAT64 and the
// IPv4-compatible form cannot be judged, or need not be.
var blockedNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),      // this network and the unspecified address, RFC 1122 section 3.2.1.3
	netip.MustParsePrefix("192.0.0.0/24"),   // protocol assignments, RFC 6890
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved, and the broadcast address
	netip.MustParsePrefix("::/96"),          // IPv4-compatible and the unspecified address, RFC 4291 section 2.5
	netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64, RFC 8215
	netip.MustParsePrefix("2001::/32"),      // Teredo, RFC 4380
}

// privateNetworks are those, beside the ones that netip calls private (RFC 1918, RFC
// 4193), that somebody's own network may use.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), // shared address space, RFC 6598
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks, RFC 2544
	netip.MustParsePrefix("fec0::/10"),     // site-local, RFC 3879
}

// Networks that hold an IPv4 address, to which packets go in the end.
var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // in the last 4 bytes, RFC 6052 section 2.1
	sixTo4 = netip.MustParsePrefix("2002::/16")    // in the 4 bytes after the prefix, RFC 3056 section 2
)

// dialable returns nil when a key set may be read from a. Who publishes a jwks_uri,
// or the DNS below its name, must not make us knock at doors that only we can reach.
// A private address may be dialled where private is true.
func checkAddress(a netip.Addr, private bool) error {
	a = a.Unmap().WithZone("") // no prefix contains an address with a zone
	if bytes := a.As16(); nat64.Contains(a) {
		a = netip.AddrFrom4([4]byte(bytes[12:]))
	} else if sixTo4.Contains(a) {
		a = netip.AddrFrom4([4]byte(bytes[2:6]))
	}
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case !a.IsValid(), a.IsLoopback(), a.IsLinkLocalUnicast(), a.IsMulticast(),
		slices.ContainsFunc(blockedNetworks, within):
		return errBlockedAddress
	case !private && (a.IsPrivate() || slices.ContainsFunc(privateNetworks, within)):
		return errPrivateAddress
	}
	return nil
}
