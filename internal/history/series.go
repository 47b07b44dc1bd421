package history

import "time"

// A series has the counts of the last hour, a minute each.
type series struct {
	last   int64           // the minute of the newest count
	counts [Minutes]uint32 // by minute modulo Minutes
}

func minuteOf(at time.Time) int64 { return at.Unix() / 60 }

// add adds one to the count of minute. If the clock was set back and minute is before last, the count goes to
// last.
func (s *series) add(minute int64) {
	s.advance(minute)
	s.counts[s.last%Minutes]++
}

// advance clears the counts of the minutes after last up to minute.
func (s *series) advance(minute int64) {
	if minute-s.last >= Minutes {
		s.counts = [Minutes]uint32{}
		s.last = minute
	}
	for s.last < minute {
		s.last++
		s.counts[s.last%Minutes] = 0
	}
}

// at returns the count of minute.
func (s *series) at(minute int64) int {
	if minute > s.last || minute <= s.last-Minutes {
		return 0
	}
	return int(s.counts[minute%Minutes])
}

// count counts a request if p has the series, and reports whether it has.
func (p *partner) count(key Key, minute int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.series[key]
	if s == nil {
		return false
	}
	s.add(minute)
	return true
}

// add counts a request, and reports whether it made the series for it.
func (p *partner) add(key Key, minute int64) (made bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.series[key]
	if s == nil {
		s, made = &series{last: minute}, true
		p.series[key] = s
	}
	s.add(minute)
	return made
}
