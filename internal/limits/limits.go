// Package limits bounds the resources that one partner can take from other partners: the concurrent requests
// of each partner, at the gate and at each upstream, and the rate of each application.
package limits

import (
	"errors"
	"slices"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
)

// Limits count the concurrent requests of each partner and limit the rate of each application. They are safe
// for concurrent use. After a reload, the next Limits share the counts and the token buckets: a reload does not
// free a slot that is in use, and does not fill an empty bucket.
type Limits struct {
	inFlight map[string]*atomic.Int64 // concurrent granted requests, by partner name
	rates    map[string]*rate.Limiter // by client_id; absent for an application without a rate
	apis     map[string]*apiLimits    // by API name
}

// anonymous is the name under which preflights are counted. No partner has this name.
const anonymous = ""

// New returns the limits for cfg, with the counts and buckets that lease shares.
func New(lease *reuse.Lease, cfg *config.Config) *Limits {
	limits, _ := reuse.Acquire(lease, "limits", nil, func(prev *Limits) (*Limits, error) {
		if prev == nil {
			prev = &Limits{}
		}
		return prev.next(cfg), nil
	}, nil)
	return limits
}

// next returns the limits for cfg, with the counts and buckets of l.
func (l *Limits) next(cfg *config.Config) *Limits {
	partners := cfg.Partners.List
	next := &Limits{
		inFlight: make(map[string]*atomic.Int64, len(partners)), rates: make(map[string]*rate.Limiter), apis: newAPILimits(cfg, l.apis),
	}
	if slices.ContainsFunc(cfg.APIs, answersPreflights) {
		next.inFlight[anonymous] = countOf(l.inFlight, anonymous)
	}
	for i := range partners {
		name := string(partners[i].Name)
		next.inFlight[name] = countOf(l.inFlight, name)
		for j := range partners[i].Applications {
			a := &partners[i].Applications[j]
			if a.RateLimit != nil {
				next.rates[string(a.ClientID)] = limiter(*a.RateLimit, l.rates[string(a.ClientID)])
			}
		}
	}
	return next
}

// countOf returns the counter that prev has under name, or a new counter that prev does not get.
func countOf(prev map[string]*atomic.Int64, name string) *atomic.Int64 {
	if count := prev[name]; count != nil {
		return count
	}
	return new(atomic.Int64)
}

// limiter returns prev if its rate is r, and a new Limiter otherwise. It does not change prev, which
// remains in use if the reload fails.
func limiter(r config.Rate, prev *rate.Limiter) *rate.Limiter {
	limit := rate.Limit(r.RequestsPerSecond)
	if prev != nil && prev.Limit() == limit && prev.Burst() == r.Burst {
		return prev
	}
	return rate.NewLimiter(limit, r.Burst)
}

// Details for the log.
var (
	errShare = errors.New("the partner has used its share of the gate's concurrent requests")
	errAPI   = errors.New("the partner has used its share of the API's concurrent requests (upstream.requests)")
	errRate  = errors.New("the application has exceeded its rate limit")
)

// Admit takes a slot of the gate and a slot of the upstream for a granted request, and a token from
// the rate limit of its application. If any of the three is missing, Admit turns the decision into a
// refusal. A partner may use as many slots as remain free: half of the slots while no other partner
// uses any, and 1/(n+1) of the slots each if n partners use as many as they can. So some slots always
// remain for the next partner. A request that gets no slot takes no token from the rate limit. left is the
// number of free slots of the gate. Admit stores the slots in taken, even if it refuses the request.
func (l *Limits) Admit(d *access.Decision, left int64, taken *Slots) {
	if d.Reason != access.Granted {
		return
	}
	if d.Partner == anonymous && !d.Preflight { // a bug: every other grant has a partner
		d.Reason = access.Undecided
		return
	}
	held := l.inFlight[d.Partner]
	if held.Add(1)-1 > share(d, left) {
		held.Add(-1)
		d.Reason, d.Err = access.Overloaded, errShare
		return
	}
	taken.partner = held
	at := l.apis[d.API]
	if !at.acquire(d) {
		d.Reason, d.Err = access.Overloaded, errAPI
		return
	}
	taken.api = at
	if r := l.rates[d.ClientID]; r != nil && !r.Allow() {
		d.Reason, d.Err = access.RateLimited, errRate
	}
}

// share returns how many slots the partner of a granted request may use, if left slots are free. The
// callers of preflights are unknown, so all preflights together use at most a part of the slots that
// one partner may use.
func share(d *access.Decision, left int64) int64 {
	if d.Preflight {
		return left / preflightShare
	}
	return left
}

// preflightShare is the divisor for preflights: they may hold as many slots as an eighth of the free slots.
// While no partner uses a slot, this is a ninth of all slots, because 1/9 = (8/9) / 8. This is enough,
// because an API answers a preflight without work, and a browser repeats a preflight only after
// Access-Control-Max-Age.
const preflightShare = 8

// Slots are the slots that [Limits.Admit] took for one request.
type Slots struct {
	partner *atomic.Int64 // the count of the partner, which includes the request; nil if the request is not counted
	api     *apiLimits    // the limits of the API, with a slot for the request; nil if there is no slot
}

// Release frees the slots. partner is the partner of the request.
func (s *Slots) Release(partner string) {
	if s.api != nil {
		s.api.release(partner)
	}
	if s.partner != nil {
		s.partner.Add(-1)
	}
}
