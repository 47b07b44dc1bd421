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
type shares struct {
	held  map[string]*atomic.Int64 // granted requests in hand, by the partner's name
	rates map[string]*rate.Limiter // by client_id, of the applications that have one
}

func newShares(partners []config.Partner, before shares) shares {
	s := shares{held: make(map[string]*atomic.Int64, len(partners)), rates: make(map[string]*rate.Limiter)}
	for i := range partners {
		name := string(partners[i].Name)
		if s.held[name] = before.held[name]; s.held[name] == nil {
			s.held[name] = new(atomic.Int64)
		}
		for j := range partners[i].Applications {
			a := &partners[i].Applications[j]
			if a.RateLimit != nil {
				s.rates[string(a.ClientID)] = limiter(*a.RateLimit, before.rates[string(a.ClientID)])
			}
		}
	}
	return s
}

// limiter returns before where that has the rate of r, and otherwise another: before may
// go on to be asked, when this reload is not taken.
func limiter(r config.Rate, before *rate.Limiter) *rate.Limiter {
	limit := rate.Limit(r.RequestsPerSecond)
	if before != nil && before.Limit() == limit && before.Burst() == r.Burst {
		return before
	}
	return rate.NewLimiter(limit, r.Burst)
}

// Why a request that was granted is not to pass, for the log.
var (
	errShare = errors.New("the partner has as many requests in hand as there are places left")
	errRate  = errors.New("the application is over its rate")
)

// limit takes the place of a granted request, and a turn of its application, or turns it
// down. Of the places a partner may have as many as are free, which is half of them while
// no other has any, and one in n+1 for each of n partners that take what they can get: so
// there are always some for those who come next, whoever holds the others and for however
// long. A request for which there is no place takes no turn.
//
// That is for requests that begin. A stream has its place and has had its turn, so the
// review of the decision about it does without.
func (p *Proxy) limit(x *exchange) {
	d := &x.decision
	if d.Reason != access.Granted {
		return
	}
	held := p.shares.held[d.Partner]
	if held.Add(1)-1 > p.room() {
		held.Add(-1)
		d.Reason, d.Err = access.Overloaded, errShare
		return
	}
	x.held = held
	if r := p.shares.rates[d.ClientID]; r != nil && !r.Allow() {
		d.Reason, d.Err = access.RateLimited, errRate
	}
}

// leave gives the place back that limit took.
func (x *exchange) leave() {
	if x.held != nil {
		x.held.Add(-1)
	}
}

// unbounded is the room where nobody counts.
func unbounded() int64 { return math.MaxInt64 }
