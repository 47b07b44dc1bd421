package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/tallygate/tallygate/bench/load"
	"github.com/tallygate/tallygate/bench/machine"
	"github.com/tallygate/tallygate/bench/stats"
)

// Results are the results of one run, as bench/results keeps them.
type results struct {
	Date         time.Time         `json:"date"`
	Machine      machine.Machine   `json:"machine"`
	Versions     map[string]string `json:"versions"` // by peer
	Peers        []string          `json:"peers"`    // chosen for the run
	Missing      []string          `json:"missing,omitempty"`
	Scenarios    []string          `json:"scenarios"` // chosen for the run
	Rounds       int               `json:"rounds"`
	Duration     time.Duration     `json:"duration_ns"`
	Settle       time.Duration     `json:"settle_ns"`
	Failures     []failure         `json:"failures,omitempty"`
	Measurements []measurement     `json:"measurements"`
}

// A failure says why a subject could not be measured.
type failure struct {
	Scenario string `json:"scenario"`
	Subject  string `json:"subject"`
	Text     string `json:"text"`
}

// A measurement is the result of one subject in one round.
type measurement struct {
	Scenario    string        `json:"scenario"`
	Subject     string        `json:"subject"`
	Peer        string        `json:"peer"`
	Round       int           `json:"round"`
	Ready       time.Duration `json:"ready_ns"`                // from the start of the server until it accepted connections
	Rate        float64       `json:"rate,omitempty"`          // planned requests per second, in open loops
	CPU         time.Duration `json:"cpu_ns"`                  // the CPU time of the server's process tree
	AtRest      int64         `json:"at_rest_bytes,omitempty"` // before the first connection, where connections are idle
	Idle        []idleMemory  `json:"idle,omitempty"`
	Memory      int64         `json:"memory_bytes"` // at the end, with the connections
	load.Result               // the result of the load generator
}

// An idleMemory is the memory of a server at a time after the last request.
type idleMemory struct {
	After  time.Duration `json:"after_ns"`
	Memory int64         `json:"memory_bytes"`
}

// Numbers for tables and figures.
func (m measurement) cpu() float64       { return micro(m.CPU) / float64(m.Done) } // µs for each request or handshake
func (m measurement) p50() float64       { return micro(m.Latency.P50) }           // µs
func (m measurement) p99() float64       { return micro(m.Latency.P99) }
func (m measurement) p999() float64      { return micro(m.Latency.P999) }
func (m measurement) perSecond() float64 { return float64(m.Done) / m.Elapsed.Seconds() }
func (m measurement) ready() float64     { return micro(m.Ready) }
func (m measurement) atRest() float64    { return float64(m.AtRest) / (1 << 20) } // MiB
func (m measurement) memory() float64    { return float64(m.Memory) / (1 << 20) } // MiB

// idle returns a function for the KiB of each idle connection at an age, NaN where it was not measured.
func idle(age time.Duration) func(measurement) float64 {
	return func(m measurement) float64 {
		for _, i := range m.Idle {
			if i.After == age {
				return float64(i.Memory-m.AtRest) / (1 << 10) / float64(m.Done)
			}
		}
		return math.NaN()
	}
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func (m measurement) String() string {
	if len(m.Idle) > 0 {
		text := fmt.Sprintf("%.1f MiB at rest, KiB per connection:", m.atRest())
		for _, i := range m.Idle {
			text += fmt.Sprintf(" %.1f after %v", idle(i.After)(m), i.After)
		}
		return text
	}
	text := fmt.Sprintf("%7.1f µs CPU, %7.0f/s, p50 %.0f µs, p99 %.0f µs, p99.9 %.0f µs", m.cpu(), m.perSecond(),
		m.p50(), m.p99(), m.p999())
	if m.Rate > 0 {
		text += fmt.Sprintf(", sent up to %.0f µs late (p99)", micro(m.Late))
	}
	return text
}

// of returns the measurements of a subject in a scenario, by round.
func (r results) of(scenario, subject string) []measurement {
	var found []measurement
	for _, m := range r.Measurements {
		if m.Scenario == scenario && m.Subject == subject {
			found = append(found, m)
		}
	}
	return found
}

// median returns the median of a number over the rounds that measured it, NaN without such rounds.
func (r results) median(scenario, subject string, number func(measurement) float64) float64 {
	var all []float64
	for _, m := range r.of(scenario, subject) {
		if v := number(m); !math.IsNaN(v) {
			all = append(all, v)
		}
	}
	return stats.Median(all)
}

// ratio returns the median of the ratios of two subjects within each round, NaN without rounds. A machine
// that is slower in one round than in the next does not change the ratios.
func (r results) ratio(scenario, a, b string, number func(measurement) float64) float64 {
	var all []float64
	for _, m := range r.of(scenario, a) {
		for _, n := range r.of(scenario, b) {
			if m.Round == n.Round {
				all = append(all, number(m)/number(n))
			}
		}
	}
	return stats.Median(all)
}

// chose reports whether all these peers were chosen for the run.
func (r results) chose(peers []string) bool {
	return !slices.ContainsFunc(peers, func(p string) bool { return !slices.Contains(r.Peers, p) })
}

// readResults reads a file that [store] wrote.
func readResults(file string) (results, error) {
	var r results
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("reading %s: %w", file, err)
	}
	return r, nil
}
