package logsample

import (
	"fmt"
	"testing"
	"time"
)

// Each of the first causes has its own Sampler.
func TestSamplers(t *testing.T) {
	var d Samplers
	begin := time.Now()
	for i, want := range []int{1, 0, 0} {
		if n := d.Add("a", begin); n != want {
			t.Errorf("Add of event %d = %d, want %d", i, n, want)
		}
	}
	if d.Add("b", begin) != 1 || d.Add("a", begin.Add(interval)) != 3 {
		t.Error("a second cause got no line of its own, or Add lost events")
	}
	lines := 0
	for i := range 1000 {
		lines += d.Add(fmt.Sprint("made up ", i), begin)
	}
	if lines > maxCauses || len(d.each) > maxCauses+1 {
		t.Errorf("got %d lines and %d causes, want a bounded number", lines, len(d.each))
	}
}

// Each of the first addresses has its own Sampler for each cause. A flood from many addresses gets a bounded
// number of lines, and forgets none of the events.
func TestSamplersByAddress(t *testing.T) {
	var d Samplers
	begin := time.Now()
	for _, c := range []struct {
		cause, detail, address string
		after                  time.Duration
		want                   int
	}{
		{"a", "", "192.0.2.1", 0, 1}, {"a", "", "192.0.2.1", 0, 0}, {"a", "", "192.0.2.2", 0, 1}, {"b", "", "192.0.2.1", 0, 1},
		{"b", "x", "192.0.2.1", 0, 1}, {"a", "", "192.0.2.1", interval, 2},
	} {
		if got := d.AddFor(c.cause, c.detail, c.address, begin.Add(c.after)); got != c.want {
			t.Errorf("AddFor(%q, %q, %q) after %s = %d, want %d", c.cause, c.detail, c.address, c.after, got, c.want)
		}
	}
	begin = begin.Add(time.Hour)
	lines, reported := 0, 0
	flood := func(now time.Time) {
		for i := range 10_000 {
			if n := d.AddFor("a", fmt.Sprint("detail ", i%7), fmt.Sprint("address ", i), now); n > 0 {
				lines, reported = lines+1, reported+n
			}
		}
	}
	flood(begin)
	if lines > maxSources+1 || len(d.each) > maxSources+2 {
		t.Errorf("a flood got %d lines and %d Samplers, want at most %d", lines, len(d.each), maxSources+1)
	}
	flood(begin.Add(interval))
	if reported < 10_000 {
		t.Errorf("the lines of two floods report %d events, want at least those of the first, 10000", reported)
	}
	// The addresses of the flood are forgotten, and the next client has its own line.
	if n := d.AddFor("a", "", "192.0.2.9", begin.Add(3*interval)); n != 1 {
		t.Errorf("AddFor after the flood = %d, want 1", n)
	}
}
