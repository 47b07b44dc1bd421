package console

import (
	"fmt"
	"strings"

	"github.com/tallygate/tallygate/internal/history"
)

// A chart has a bar for each minute of the last hour. The server draws it as SVG, so that it needs no
// script. The paths of the SVG contain only numbers; the texts of the chart are HTML beside the SVG.
type chart struct {
	Title string
	Most  int // the highest bar
	Total int
	Parts []part // from the bottom up
}

// A part is the part of all bars that counts requests with one outcome.
type part struct {
	Class string // granted, refused or failed
	Total int
	Path  string // the SVG path, in a box of 600 by 100
}

const (
	chartWidth  = 10 // the width of a minute
	chartHeight = 100
)

var outcomeNames = [history.Outcomes]string{history.Granted: "granted", history.Refused: "refused", history.Failed: "failed"}

// newChart draws the requests in w whose outcome is in outcomes.
func newChart(title string, w *history.Window, outcomes ...history.Outcome) chart {
	c := chart{Title: title}
	for _, m := range w {
		sum := 0
		for _, o := range outcomes {
			sum += m[o]
		}
		c.Most, c.Total = max(c.Most, sum), c.Total+sum
	}
	var base [history.Minutes]float64
	for _, o := range outcomes {
		p := part{Class: outcomeNames[o]}
		var path strings.Builder
		for i, m := range w {
			if m[o] == 0 {
				continue
			}
			p.Total += m[o]
			// A bar is at least 3 units high, so that a single refusal is visible beside many.
			height := max(3, chartHeight*float64(m[o])/float64(c.Most))
			height = min(height, chartHeight-base[i])
			writeBar(&path, i*chartWidth+1, chartWidth-2, base[i], height)
			base[i] += height
		}
		p.Path = path.String()
		c.Parts = append(c.Parts, p)
	}
	return c
}

func writeBar(path *strings.Builder, x, width int, base, height float64) {
	fmt.Fprintf(path, "M%d %.1fh%dv-%.1fh-%dz", x, chartHeight-base, width, height, width)
}

// A spark is a small chart of counts beside a row, in a box of 120 by 20. It has an SVG path of the bars,
// and an SVG path of their serious parts, which are at the bottom.
type spark struct{ All, Serious string }

func newSpark(counts, serious *[history.Minutes]int) spark {
	most := 1
	for _, n := range counts {
		most = max(most, n)
	}
	return spark{sparkPath(counts, most), sparkPath(serious, most)}
}

func sparkPath(counts *[history.Minutes]int, most int) string {
	var path strings.Builder
	for i, n := range counts {
		if n > 0 {
			height := max(2, 20*float64(n)/float64(most))
			fmt.Fprintf(&path, "M%d 20h2v-%.1fh-2z", 2*i, height)
		}
	}
	return path.String()
}

// A minute is a row of the table that says the same as the chart.
type minute struct {
	At                       moment
	Granted, Refused, Failed int
}

// minutes returns the minutes of w with requests, the newest first.
func (v *view) minutes(w *history.Window) (rows []minute) {
	for i := history.Minutes - 1; i >= 0; i-- {
		m := w[i]
		if m == ([history.Outcomes]int{}) {
			continue
		}
		at := v.now.Add(-minutesOf(history.Minutes - 1 - i)).Truncate(minutesOf(1))
		rows = append(rows, minute{v.moment(at), m[history.Granted], m[history.Refused], m[history.Failed]})
	}
	return rows
}
