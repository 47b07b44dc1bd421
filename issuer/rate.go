package issuer

import (
	"net/http"
	"net/netip"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/config"
)

// maxAddresses bounds the addresses with a rate limiter. A limiter takes about 200 bytes, so 16,384
// limiters take 3 MiB. A sender with more addresses gets a new limiter each time, so the rate does
// not limit it, and a firewall must stop it.
const maxAddresses = 16 << 10

// addressRates limits the requests of each source address. It is safe for concurrent use.
type addressRates struct {
	per config.Rate

	mu      sync.Mutex
	buckets *lru.Cache[netip.Prefix, *rate.Limiter]
}

func newAddressRates(per config.Rate) (*addressRates, error) {
	buckets, err := lru.New[netip.Prefix, *rate.Limiter](maxAddresses)
	return &addressRates{per: per, buckets: buckets}, err
}

// allow reports whether a request of address is within the rate, and counts the request. The
// addresses of one client share a limiter. All invalid addresses share a limiter too.
func (a *addressRates) allow(address netip.Addr) bool {
	return a.bucket(config.ClientPrefix(address)).Allow()
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

// sourceOf returns the remote address of r without a zone. If the remote address does not parse, it
// returns the zero address.
func sourceOf(r *http.Request) netip.Addr {
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return source.Addr().Unmap().WithZone("")
}
