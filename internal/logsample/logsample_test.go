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
