package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/tallygate/tallygate/bench/load"
	"github.com/tallygate/tallygate/bench/stats"
)

// Results are what one run found, as they are kept.
type results struct {
	Date         time.Time         `json:"date"`
	Machine      machine           `json:"machine"`
	Versions     map[string]string `json:"versions"` // by peer
	Peers        []string          `json:"peers"`    // those that were to be measured
	Missing      []string          `json:"missing,omitempty"`
	Scenarios    []string          `json:"scenarios"` // those that were played
	Rounds       int               `json:"rounds"`
	Duration     time.Duration     `json:"duration_ns"`
	Settle       time.Duration     `json:"settle_ns"`
	Failures     []failure         `json:"failures,omitempty"`
	Measurements []measurement     `json:"measurements"`
}

// A failure is a subject that could not be measured.
type failure struct {
	Scenario string `json:"scenario"`
	Subject  string `json:"subject"`
	Text     string `json:"text"`
}

// A measurement is one turn of one subject.
type measurement struct {
	Scenario    string        `json:"scenario"`
	Subject     string        `json:"subject"`
	Peer        string        `json:"peer"`
	Round       int           `json:"round"`
	Ready       time.Duration `json:"ready_ns"`       // from the start of the server until it took connections
	Rate        float64       `json:"rate,omitempty"` // planned requests a second, in open loops
	CPU         time.Duration `json:"cpu_ns"`         // of the server's whole tree
	AtRest      int64         `json:"at_rest_bytes,omitempty"`
	Memory      int64         `json:"memory_bytes"` // at the end, with the connections
	load.Result               // of the load generator
}

// The numbers that are compared.
func (m measurement) cpu() float64       { return micro(m.CPU) / float64(m.Done) } // µs for each
func (m measurement) p50() float64       { return micro(m.Latency.P50) }           // µs
func (m measurement) p99() float64       { return micro(m.Latency.P99) }
func (m measurement) p999() float64      { return micro(m.Latency.P999) }
func (m measurement) perSecond() float64 { return float64(m.Done) / m.Elapsed.Seconds() }
func (m measurement) ready() float64     { return micro(m.Ready) }
func (m measurement) atRest() float64    { return float64(m.AtRest) / (1 << 20) } // MiB
func (m measurement) memory() float64    { return float64(m.Memory) / (1 << 20) } // MiB
func (m measurement) weight() float64 {
	return float64(m.Memory-m.AtRest) / (1 << 10) / float64(m.Done)
} // KiB for each

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func (m measurement) String() string {
	if m.AtRest > 0 {
		return fmt.Sprintf("%6.1f KiB per connection, %.1f MiB at rest", m.weight(), m.atRest())
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

// median returns the median of a number over a subject's rounds, NaN without rounds.
func (r results) median(scenario, subject string, number func(measurement) float64) float64 {
	var all []float64
	for _, m := range r.of(scenario, subject) {
		all = append(all, number(m))
	}
	return stats.Median(all)
}

// ratio returns the median of the ratios of two subjects within each round, so that a machine that is
// slower in one round than in the next does not change the result; NaN without rounds.
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
