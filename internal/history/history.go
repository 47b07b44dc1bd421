// Package history keeps the results of the requests of the last hour in bounded memory: counts per
// minute by partner, API and reason, the last refusals of each partner, and the client certificates of
// granted requests. The console reads it. It holds nothing that the log does not have.
package history

import (
	"strings"
	"sync"
	"time"
)

// The bounds. Together they allow some 25 MiB, as TestMemory measures.
const (
	// maxSeries bounds the counts: 20,000 series of 60 minutes at 4 bytes, with their keys, are 7 MiB.
	maxSeries = 20_000
	// maxRefusals bounds the refusals of all partners: 2,000 * 30 fields * (200 bytes of text + 32 bytes of
	// string headers) are 13 MiB.
	maxRefusals = 2_000
	// refusalsPerPartner bounds the refusals of one partner, so that a partner cannot push out the refusals of
	// other partners.
	refusalsPerPartner = 20
	// maxCertificates bounds the certificates of all partners: 5,000 of 600 bytes are 3 MiB.
	maxCertificates = 5_000
	// certificatesPerPartner allows for several applications of a partner and for their renewals.
	certificatesPerPartner = 8
)

// Minutes is the length of the history in minutes.
const Minutes = 60

// OtherPartners is the name under which requests of further partners are counted while maxSeries is reached.
const OtherPartners = ""

// An Outcome says what became of a request.
type Outcome uint8

// The outcomes.
const (
	Granted   Outcome = iota // granted and forwarded
	Refused                  // refused because of the request
	Failed                   // the gate could not decide, or the API failed after the grant
	Handshake                // no request: the TLS handshake failed
	outcomes
)

// Outcomes is the number of outcomes.
const Outcomes = int(outcomes)

// A Key names the requests that a series counts. Each field has a value of the configuration or of a closed
// set.
type Key struct {
	API     string
	Reason  string // the reason of the decision, or the failure after a grant
	Outcome Outcome
}

// A History is safe for concurrent use. All states of a gate share one History, so it survives reloads.
type History struct {
	mu       sync.RWMutex
	partners map[string]*partner // partners are added and never removed: their names are configured

	// adding is held while a series, refusal or certificate is added. It guards the fields below, which
	// count the entries of all partners together.
	adding                         sync.Mutex
	series, refusals, certificates int
	// order has the partner of each refusal in the order of their addition, so that the refusal to drop
	// next is found without a search. Once order is full, first is the index of its oldest element.
	order [maxRefusals]*partner
	first int
}

// A partner has the history of one partner.
type partner struct {
	mu           sync.Mutex
	series       map[Key]*series
	refusals     []*Refusal // the newest last
	certificates []*Certificate
}

// New returns an empty History.
func New() *History {
	return &History{partners: map[string]*partner{OtherPartners: newPartner()}}
}

func newPartner() *partner { return &partner{series: make(map[Key]*series)} }

// Count counts a request of a partner that ended at the time at. For a key that it knows, it allocates
// nothing.
func (h *History) Count(name string, key Key, at time.Time) {
	minute := minuteOf(at)
	if p := h.find(name); p != nil && p.count(key, minute) {
		return
	}
	h.adding.Lock()
	defer h.adding.Unlock()
	if h.series >= maxSeries {
		// These series are not counted, because they are products of APIs and reasons and not of partners.
		h.find(OtherPartners).add(key, minute)
		return
	}
	if h.findOrAdd(name).add(key, minute) {
		h.series++
	}
}

func (h *History) find(name string) *partner {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.partners[name]
}

func (h *History) findOrAdd(name string) *partner {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.partners[name]
	if p == nil {
		p = newPartner()
		h.partners[strings.Clone(name)] = p
	}
	return p
}

// Sweep removes counts that are older than an hour. Refusals and certificates stay until newer entries
// replace them.
func (h *History) Sweep(now time.Time) {
	oldest := minuteOf(now) - Minutes
	h.adding.Lock()
	defer h.adding.Unlock()
	for name, p := range h.each() {
		p.mu.Lock()
		for key, s := range p.series {
			if s.last > oldest {
				continue
			}
			delete(p.series, key)
			if name != OtherPartners {
				h.series--
			}
		}
		p.mu.Unlock()
	}
}
