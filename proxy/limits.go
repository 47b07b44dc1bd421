package proxy

import (
	"errors"
	"math"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// shares are what each partner holds of the gate, and what each application may still ask
// of it. A Proxy that takes another's place goes on with those of before: a reload frees no
// place that is taken, and fills no bucket that is empty.
type partnerLimits struct {
	inFlight map[string]*atomic.Int64 // granted requests in hand, by the partner's name
	rates    map[string]*rate.Limiter // by client_id, of the applications that have one
	apis     map[string]*apiLimits    // of the upstreams, by the name of the API
}

func newPartnerLimits(partners []config.Partner, prev partnerLimits) partnerLimits {
	s := partnerLimits{inFlight: make(map[string]*atomic.Int64, len(partners)), rates: make(map[string]*rate.Limiter)}
	for i := range partners {
		name := string(partners[i].Name)
		if s.inFlight[name] = prev.inFlight[name]; s.inFlight[name] == nil {
			s.inFlight[name] = new(atomic.Int64)
		}
		for j := range partners[i].Applications {
			a := &partners[i].Applications[j]
			if a.RateLimit != nil {
				s.rates[string(a.ClientID)] = limiter(*a.RateLimit, prev.rates[string(a.ClientID)])
			}
		}
	}
	return s
}

// limiter returns before where that has the rate of r, and otherwise another: before may
// go on to be asked, when this reload is not taken.
func limiter(r config.Rate, prev *rate.Limiter) *rate.Limiter {
	limit := rate.Limit(r.RequestsPerSecond)
	if prev != nil && prev.Limit() == limit && prev.Burst() == r.Burst {
		return prev
	}
	return rate.NewLimiter(limit, r.Burst)
}

// Why a request that was granted is not to pass, for the log.
var (
	errShare = errors.New("the partner has as many requests in hand as there are places left")
	errAPI   = errors.New("the partner has used its share of the API's concurrent requests (upstream.requests)")
	errRate  = errors.New("the application is over its rate")
)

// limit takes a place at the gate and one at the upstream for a granted request, and a token from
// its application's bucket, or refuses it. Of either places a partner may hold as many as are
// left: half of them while no other partner holds any, and one in n+1 for each of n partners that
// take all they can get. So some are always left for the next partner, whoever holds the others
// and for however long. A request for which there is no place takes no token.
//
// It is for requests that begin. A stream already has its places, so the review of the decision
// about it does not call limit.
func (p *Proxy) admit(x *exchange) {
	d := &x.decision
	if d.Reason != access.Granted {
		return
	}
	held := p.limits.inFlight[d.Partner]
	if held.Add(1)-1 > p.slotsLeft() {
		held.Add(-1)
		d.Reason, d.Err = access.Overloaded, errShare
		return
	}
	x.partnerInFlight = held
	if at := p.limits.apis[d.API]; !at.acquire(d.Partner) {
		d.Reason, d.Err = access.Overloaded, errAPI
		return
	}
	x.apiLimits = p.limits.apis[d.API]
	if r := p.limits.rates[d.ClientID]; r != nil && !r.Allow() {
		d.Reason, d.Err = access.RateLimited, errRate
	}
}

// leave gives back the places that limit took, at the gate and at the upstream.
func (x *exchange) release() {
	if x.apiLimits != nil {
		x.apiLimits.release(x.decision.Partner)
	}
	if x.partnerInFlight != nil {
		x.partnerInFlight.Add(-1)
	}
}

// unbounded is the room where nobody counts.
func unbounded() int64 { return math.MaxInt64 }
