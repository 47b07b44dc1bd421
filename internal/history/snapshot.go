package history

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A Window has counts per minute of the last hour by outcome, the oldest first. The last minute is not over.
type Window [Minutes][Outcomes]int

// Sum returns the number of requests with the outcome in the last minutes.
func (w *Window) Sum(o Outcome, minutes int) (sum int) {
	for _, m := range w[Minutes-minutes:] {
		sum += m[o]
	}
	return sum
}

// A Row is the counts of one partner, API and reason.
type Row struct {
	Partner string
	Key
	Counts [Minutes]int // the oldest first
}

// Last returns the sum of the last minutes.
func (r *Row) Last(minutes int) (sum int) {
	for _, n := range r.Counts[Minutes-minutes:] {
		sum += n
	}
	return sum
}

// Rows returns the counts of refused and failed requests of all partners in the hour before now, and the
// window of all requests.
func (h *History) Rows(now time.Time) (rows []Row, all Window) {
	minute := minuteOf(now)
	for name, p := range h.each() {
		p.mu.Lock()
		for key, s := range p.series {
			row := Row{Partner: name, Key: key}
			sum := s.addTo(&row.Counts, &all, key.Outcome, minute)
			if sum > 0 && key.Outcome != Granted {
				rows = append(rows, row)
			}
		}
		p.mu.Unlock()
	}
	return rows, all
}

// Partner returns the counts of one partner in the hour before now, by key, and their window.
func (h *History) Partner(name string, now time.Time) (rows []Row, all Window) {
	p := h.find(name)
	if p == nil {
		return nil, all
	}
	minute := minuteOf(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.series {
		row := Row{Partner: name, Key: key}
		if s.addTo(&row.Counts, &all, key.Outcome, minute) > 0 {
			rows = append(rows, row)
		}
	}
	return rows, all
}

// addTo adds the counts of s to counts and to w, and returns their sum.
func (s *series) addTo(counts *[Minutes]int, w *Window, o Outcome, minute int64) (sum int) {
	for i := range Minutes {
		n := s.at(minute - int64(Minutes-1-i))
		counts[i] += n
		w[i][o] += n
		sum += n
	}
	return sum
}

// each returns a copy of the map of partners.
func (h *History) each() map[string]*partner {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return maps.Clone(h.partners)
}

// Refusals returns the refusals of one partner, the newest first.
func (h *History) Refusals(name string) []*Refusal {
	p := h.find(name)
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	newest := slices.Clone(p.refusals)
	slices.Reverse(newest)
	slices.SortStableFunc(newest, func(a, b *Refusal) int { return b.Last.Compare(a.Last) })
	return newest
}

// AllRefusals returns the refusals that match accepts, the newest first. They are at most some thousands.
func (h *History) AllRefusals(accept func(*Refusal) bool) (found []*Refusal) {
	for _, p := range h.each() {
		p.mu.Lock()
		for _, r := range p.refusals {
			if accept(r) {
				found = append(found, r)
			}
		}
		p.mu.Unlock()
	}
	slices.SortStableFunc(found, func(a, b *Refusal) int { return b.Last.Compare(a.Last) })
	return found
}

// Certificates returns the certificates of a partner's granted requests, sorted by their ends.
func (h *History) Certificates(name string) []Certificate {
	p := h.find(name)
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Certificate
	for _, c := range p.certificates {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Certificate) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), slices.Compare(a.Thumbprint[:], b.Thumbprint[:]))
	})
	return all
}

// Activity has the totals of a partner's requests.
type Activity struct {
	Granted, Refused, Failed int       // in the last hour
	GrantedNow               int       // in the last ten minutes
	CertificateEnd           time.Time // the first end of the partner's certificates; zero without certificates
}

// Activities returns the activity of every partner that is in the history.
func (h *History) Activities(now time.Time) map[string]Activity {
	minute, all := minuteOf(now), make(map[string]Activity)
	for name, p := range h.each() {
		var a Activity
		var w Window
		p.mu.Lock()
		for key, s := range p.series {
			var counts [Minutes]int
			s.addTo(&counts, &w, key.Outcome, minute)
		}
		for _, c := range p.certificates {
			if a.CertificateEnd.IsZero() || c.NotAfter.Before(a.CertificateEnd) {
				a.CertificateEnd = c.NotAfter
			}
		}
		p.mu.Unlock()
		a.GrantedNow = w.Sum(Granted, 10)
		a.Granted, a.Refused, a.Failed = w.Sum(Granted, Minutes), w.Sum(Refused, Minutes), w.Sum(Failed, Minutes)
		all[name] = a
	}
	return all
}
