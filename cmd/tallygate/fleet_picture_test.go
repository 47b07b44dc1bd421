package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"time"
)

// The columns of the picture are the times below each bound.
var fleetBounds = []time.Duration{
	2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second,
}

// drawTimes returns an SVG of how many sidecars refused how soon. It has its own background and follows the reader's
// preference for light or dark, as docs/performance.svg does.
func drawTimes(took []time.Duration, note string) []byte {
	const width, left, base, tall, column, gap = 760, 28, 250, 150, 62, 16
	counts := make([]int, len(fleetBounds)+1)
	for _, d := range took {
		i, _ := slices.BinarySearch(fleetBounds, d+1) // the bound itself belongs to the next column
		counts[i]++
	}
	var body strings.Builder
	fmt.Fprintf(&body, `<text class="title" x="%d" y="44">From the acknowledged revocation to the refusal at a sidecar</text>`+"\n", left)
	fmt.Fprintf(&body, `<text class="note" x="%d" y="63">%s</text>`+"\n", left, html.EscapeString(note))
	most, below := slices.Max(counts), 0
	for i, n := range counts {
		x := left + i*(column+gap) - i*gap/2
		height := max(1, n*tall/most)
		if n == 0 {
			height = 0
		}
		below += n
		label := "longer"
		if i < len(fleetBounds) {
			label = "< " + fleetBounds[i].String()
		}
		fmt.Fprintf(&body, `<rect class="bar" x="%d" y="%d" width="%d" height="%d" rx="3"/>`, x, base-height, column, height)
		fmt.Fprintf(&body, `<text class="middle" x="%d" y="%d">%d</text>`, x+column/2, base-height-6, n)
		fmt.Fprintf(&body, `<text class="middle" x="%d" y="%d">%s</text>`, x+column/2, base+19, html.EscapeString(label))
		fmt.Fprintf(&body, `<text class="middle note" x="%d" y="%d">%.4g %%</text>`+"\n", x+column/2, base+36, 100*float64(below)/float64(len(took)))
	}
	fmt.Fprintf(&body, `<text class="note" x="%d" y="%d">Above the columns: sidecars. Below: how many had refused by then. The goal is 99 %% within 250 ms, and all within 1 s.</text>`+"\n", left, base+64)
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="Times from the acknowledged revocation to the refusal">
<style>
  .ground { fill: #ffffff; stroke: #d0d7de; }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .middle { text-anchor: middle; }
  .note { font-size: 11.5px; fill: #59636e; }
  .bar { fill: #1a7f64; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d; }
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .bar { fill: #3fb68f; }
  }
</style>
<rect class="ground" x="0.5" y="0.5" width="%[3]d" height="%[4]d" rx="8"/>
%[5]s</svg>
`, width, base+86, width-1, base+85, body.String())
}
