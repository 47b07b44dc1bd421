package issuer

import (
	"net/http"
	"net/netip"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/config"
)

// rememberedAddresses bounds the addresses whose rate is known. One takes about 200
// bytes, so 16,384 of them 3 MiB. Who can send from more addresses than that gets a
// fresh bucket each time, and is the firewall's business.
const rememberedAddresses = 16 << 10

// addressRates limits each source address. It is safe for concurrent use.
type addressRates struct {
	per config.Rate

	mu      sync.Mutex
	buckets *lru.Cache[netip.Prefix, *rate.Limiter]
}

func newAddressRates(per config.Rate) (*addressRates, error) {
	buckets, err := lru.New[netip.Prefix, *rate.Limiter](rememberedAddresses)
	return &addressRates{per: per, buckets: buckets}, err
}

// allow takes one request of address and reports whether it is within the rate. An
// IPv6 host has a /64 to itself, so that is what counts.
func (a *addressRates) allow(address netip.Addr) bool {
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	key, _ := address.Prefix(bits) // fails for the zero address, which is then one bucket
	return a.bucket(key).Allow()
}

func (a *addressRates) bucket(key netip.Prefix) *rate.Limiter {
	a.mu.Lock()
	defer a.mu.Unlock()
	bucket, ok := a.buckets.Get(key)
	if !ok {
		bucket = rate.NewLimiter(rate.Limit(a.per.RequestsPerSecond), a.per.Burst)
		a.buckets.Add(key, bucket)
	}
	return bucket
}

// sourceOf returns the address at the other end of r's connection, without a zone; the
// zero address when there is none.
func sourceOf(r *http.Request) netip.Addr {
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return source.Addr().Unmap().WithZone("")
}
