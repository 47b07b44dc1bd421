package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes in the chart, in pixels.
const (
	chartWidth = 760
	margin     = 28
	barStart   = 190 // right of the names
	barEnd     = 650 // left of the last value
	barHeight  = 22
	noteHeight = 16 // the height of a line below a bar
	gap        = 10 // between rows
)

// chart draws the CPU time of a request and of a handshake by peer, as SVG. It has its own background and
// follows the reader's preference for light or dark, so that it is readable on any page.
func chart(r results) string {
	var body strings.Builder
	y := 44
	for _, p := range []panel{
		{"keep-alive-es256", "CPU time per request", "64 partners over mutual TLS, ES256 tokens, keep-alive, answers of 1 KB; less is better", true},
		{"handshake-full", "CPU time per full handshake", "TLS 1.3, P-256 certificates on both sides; less is better", false},
	} {
		y = p.draw(&body, r, y)
	}
	m := r.Machine
	fmt.Fprintf(&body, `<text class="note" x="%d" y="%d">%s</text>`+"\n", margin, y-8,
		html.EscapeString(fmt.Sprintf("Medians of %d rounds on %d cores, %s. User and kernel time of each server's process tree.", r.Rounds, m.Cores, r.Date.Format("2006-01-02"))))
	height := y + 14
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="CPU time per request and per full handshake, by peer">
<style>
  .ground { fill: #ffffff; stroke: #d0d7de; }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .name { font-weight: 600; }
  .note { font-size: 11.5px; fill: #59636e; }
  .bar { fill: #8c959f; }
  .own { fill: #1a7f64; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d; }
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .bar { fill: #656c76; }
    .own { fill: #3fb68f; }
  }
</style>
<rect class="ground" x="0.5" y="0.5" width="%[3]d" height="%[4]d" rx="8"/>
%[5]s</svg>
`, chartWidth, height, chartWidth-1, height-1, body.String())
}

// A bar is the bar of one peer.
type bar struct {
	peer  peer
	value float64 // µs
}

// A panel is one scenario in the chart.
type panel struct {
	scenario, title, note string
	checks                bool // show what each peer checks
}

// noteOn returns the line below the bar of a peer, "" for no line.
func (of panel) noteOn(p peer) string {
	switch {
	case !of.checks:
		return p.setup
	case p.setup == "":
		return p.does
	}
	return p.setup + ": " + p.does
}

// draw draws the panel from y downwards and returns its end.
func (of panel) draw(out *strings.Builder, r results, y int) int {
	var bars []bar
	for _, p := range everyPeer {
		if v := r.median(of.scenario, p.name, measurement.cpu); !math.IsNaN(v) {
			bars = append(bars, bar{p, v})
		}
	}
	if len(bars) == 0 {
		return y
	}
	slices.SortFunc(bars, func(a, b bar) int { return cmp.Compare(a.value, b.value) })
	longest := bars[len(bars)-1].value
	fmt.Fprintf(out, `<text class="title" x="%d" y="%d">%s</text>`+"\n", margin, y, html.EscapeString(of.title))
	fmt.Fprintf(out, `<text class="note" x="%d" y="%d">%s</text>`+"\n", margin, y+19, html.EscapeString(of.note))
	y += 36
	for _, b := range bars {
		class := "bar"
		if b.peer.name == tallygate.name {
			class = "bar own"
		}
		length := max(2, b.value/longest*(barEnd-barStart))
		fmt.Fprintf(out, `<text class="name" x="%d" y="%d">%s</text>`, margin, y+16, html.EscapeString(b.peer.versioned(r.Versions[b.peer.name])))
		fmt.Fprintf(out, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="3"/>`, class, barStart, y, length, barHeight)
		fmt.Fprintf(out, `<text x="%.1f" y="%d">%.0f µs</text>`, barStart+length+8, y+16, b.value)
		y += barHeight
		if note := of.noteOn(b.peer); note != "" {
			fmt.Fprintf(out, `<text class="note" x="%d" y="%d">%s</text>`, barStart, y+14, html.EscapeString(note))
			y += noteHeight
		}
		out.WriteString("\n")
		y += gap
	}
	return y + 36
}
