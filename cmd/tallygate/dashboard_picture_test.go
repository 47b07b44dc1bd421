package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"math"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The picture draws the panels of the dashboard at their places, from the same queries, without Grafana.
const (
	columnWidth = 50 // the width of each of 24 columns
	rowHeight   = 30
	gap         = 4
)

var seriesColors = []string{"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"}

var stateColors = map[string]string{"red": "#c4162a", "orange": "#e0752d", "green": "#37872d", "text": "#24292e"}

// drawDashboard returns an SVG of d with the data of p since begun.
func drawDashboard(d dashboard, p *prometheusServer, begun time.Time) []byte {
	var b bytes.Buffer
	height := 0
	for _, panel := range d.Panels {
		height = max(height, (panel.Grid.Y+panel.Grid.H)*rowHeight)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" font-size="11">`+"\n", 24*columnWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#f4f5f5"/>`+"\n", 24*columnWidth, height)
	for _, panel := range d.Panels {
		c := &canvas{b: &b, x: float64(panel.Grid.X*columnWidth + gap), y: float64(panel.Grid.Y*rowHeight + gap),
			w: float64(panel.Grid.W*columnWidth - 2*gap), h: float64(panel.Grid.H*rowHeight - 2*gap)}
		if panel.Type == "row" {
			c.text(0, 16, "start", "#24292e", `font-size="14" font-weight="bold"`, panel.Title)
			continue
		}
		c.rect(0, 0, c.w, c.h, `fill="#ffffff" stroke="#d8d9da"`)
		c.text(8, 16, "start", "#24292e", `font-weight="bold"`, panel.Title)
		switch panel.Type {
		case "stat":
			c.drawStat(panel, p)
		case "table":
			c.drawTable(panel, p)
		case "heatmap":
			c.drawHeatmap(p.series(panel.Targets[0].Expr, begun))
		default:
			c.drawSeries(panel, p, begun)
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// A canvas is the place of a panel.
type canvas struct {
	b          *bytes.Buffer
	x, y, w, h float64
}

func (c *canvas) rect(x, y, w, h float64, style string) {
	fmt.Fprintf(c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" %s/>`+"\n", c.x+x, c.y+y, w, h, style)
}

func (c *canvas) text(x, y float64, anchor, color, style, text string) {
	fmt.Fprintf(c.b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" %s>%s</text>`+"\n", c.x+x, c.y+y, anchor, color, style, html.EscapeString(text))
}

// color returns the color of value.
func (t thresholds) color(value float64) string {
	color := "text"
	for _, s := range t.Steps {
		if s.Value == nil || value >= *s.Value {
			color = s.Color
		}
	}
	return stateColors[color]
}

func (c *canvas) drawStat(panel panel, p *prometheusServer) {
	for _, s := range p.query(grafana(panel.Targets[0].Expr, window)) {
		value, _ := strconv.ParseFloat(s.Value[1].(string), 64)
		c.text(c.w/2, c.h/2+18, "middle", panel.FieldConfig.Defaults.Thresholds.color(value), `font-size="26"`, inUnit(value, panel.FieldConfig.Defaults.Unit))
	}
}

func (c *canvas) drawTable(panel panel, p *prometheusServer) {
	var limits struct{ Steps thresholds }
	for _, o := range panel.FieldConfig.Overrides {
		for _, property := range o.Properties {
			_ = json.Unmarshal(property.Value, &limits.Steps) // other properties have no steps
		}
	}
	found := p.query(grafana(panel.Targets[0].Expr, window))
	if len(found) == 0 {
		return
	}
	columns := slices.DeleteFunc(slices.Sorted(maps.Keys(found[0].Metric)), func(label string) bool { return label == "job" || label == "__name__" })
	name := panel.Transformations[0].Options.RenameByName["Value"]
	width := (c.w - 16) / float64(len(columns)+1)
	for i, column := range append(slices.Clone(columns), name) {
		c.text(8+float64(i)*width, 36, "start", "#6e6e6e", "", column)
	}
	for i, s := range found {
		y := 54 + 16*float64(i)
		if y > c.h-4 {
			return
		}
		for k, column := range columns {
			text := s.Metric[column]
			if filepath.IsAbs(text) { // in a folder of the test
				text = "…/" + filepath.Base(text)
			}
			c.text(8+float64(k)*width, y, "start", "#24292e", "", text)
		}
		value, _ := strconv.ParseFloat(s.Value[1].(string), 64)
		c.text(8+float64(len(columns))*width, y, "start", limits.Steps.color(value), "", strconv.FormatFloat(math.Round(value), 'f', -1, 64))
	}
}

// A line is a series of values, all with the same times.
type line struct {
	labels map[string]string
	legend string
	values []float64 // NaN at times without a value
}

// window is the time over which rates are computed, for traffic of a minute.
const window = "15s"

// series returns the result of the query since begun.
func (p *prometheusServer) series(expression string, begun time.Time) (lines []line) {
	p.t.Helper()
	now := time.Now()
	first := begun.Add(2 * time.Second) // rates need two samples
	var data struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	p.get(fmt.Sprintf("query_range?query=%s&start=%d&end=%d&step=1", url.QueryEscape(grafana(expression, window)), first.Unix(), now.Unix()), &data)
	for _, r := range data.Result {
		l := line{labels: r.Metric, values: make([]float64, max(0, now.Unix()-first.Unix())+1)}
		for i := range l.values {
			l.values[i] = math.NaN()
		}
		for _, v := range r.Values {
			if i := int(v[0].(float64)) - int(first.Unix()); i >= 0 && i < len(l.values) {
				l.values[i], _ = strconv.ParseFloat(v[1].(string), 64)
			}
		}
		lines = append(lines, l)
	}
	return lines
}

func (c *canvas) drawSeries(panel panel, p *prometheusServer, begun time.Time) {
	var lines []line
	label := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, target := range panel.Targets {
		for _, l := range p.series(target.Expr, begun) {
			l.legend = label.ReplaceAllStringFunc(target.LegendFormat, func(name string) string { return l.labels[strings.Trim(name, "{}")] })
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return
	}
	stacked := panel.FieldConfig.Defaults.Custom.Stacking.Mode == "normal"
	below := make([]float64, len(lines[0].values))
	top := 0.0
	tops := make([][]float64, len(lines))
	for i, l := range lines {
		tops[i] = slices.Clone(l.values)
		for k, v := range l.values {
			if stacked {
				if math.IsNaN(v) {
					v = 0
				}
				v += below[k]
				below[k] = v
				tops[i][k] = v
			}
			if !math.IsNaN(v) {
				top = max(top, v)
			}
		}
	}
	top = max(top*1.1, 1e-9)
	legendRows := c.legend(lines)
	left, right, upper, lower := 52.0, c.w-8, 26.0, c.h-10-14*float64(legendRows)
	for i := range 4 {
		y := lower - (lower-upper)*float64(i)/3
		c.rect(left, y, right-left, 0.5, `fill="#e4e5e6"`)
		c.text(left-4, y+4, "end", "#6e6e6e", `font-size="10"`, inUnit(top*float64(i)/3, panel.FieldConfig.Defaults.Unit))
	}
	at := func(k int, v float64) string {
		return fmt.Sprintf("%.1f,%.1f", c.x+left+(right-left)*float64(k)/float64(max(1, len(below)-1)), c.y+lower-(lower-upper)*v/top)
	}
	for i := len(tops) - 1; i >= 0; i-- {
		var points []string
		for k, v := range tops[i] {
			if !math.IsNaN(v) {
				points = append(points, at(k, v))
			}
		}
		color := seriesColors[i%len(seriesColors)]
		if stacked {
			fmt.Fprintf(c.b, `<polygon points="%s %s %s" fill="%s"/>`+"\n", at(0, 0), strings.Join(points, " "), at(len(below)-1, 0), color)
			continue
		}
		fmt.Fprintf(c.b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(points, " "), color)
	}
}

// legend draws the names of lines and returns how many rows they take, at most 3.
func (c *canvas) legend(lines []line) (rows int) {
	type place struct {
		x   float64
		row int
	}
	places := make([]place, len(lines))
	x, row := 8.0, 0
	for i, l := range lines {
		width := 20 + 5.6*float64(len(l.legend))
		if x+width > c.w && x > 8 {
			x, row = 8, row+1
		}
		places[i] = place{x, row}
		x += width
	}
	rows = min(row+1, 3)
	for i, l := range lines {
		if places[i].row >= rows {
			break
		}
		y := c.h - 6 - 14*float64(rows-1-places[i].row)
		c.rect(places[i].x, y-8, 8, 8, `fill="`+seriesColors[i%len(seriesColors)]+`"`)
		c.text(places[i].x+11, y, "start", "#24292e", `font-size="10"`, l.legend)
	}
	return rows
}

// drawHeatmap draws the buckets of a histogram over time, the more requests the darker.
func (c *canvas) drawHeatmap(lines []line) {
	bound := func(l line) float64 { v, _ := strconv.ParseFloat(l.labels["le"], 64); return v }
	slices.SortFunc(lines, func(a, b line) int { return int(math.Copysign(1, bound(a)-bound(b))) })
	left, right, upper, lower := 52.0, c.w-8, 26.0, c.h-12
	height := (lower - upper) / float64(max(1, len(lines)))
	for i, l := range lines {
		y := lower - height*float64(i+1)
		c.text(left-4, y+height/2+4, "end", "#6e6e6e", `font-size="10"`, inUnit(bound(l), "s"))
		width := (right - left) / float64(len(l.values))
		for k, v := range l.values {
			if i > 0 {
				v -= lines[i-1].values[k]
			}
			if share := math.Log1p(v) / math.Log(500); share > 0 {
				c.rect(left+width*float64(k), y, width+0.2, height-1, fmt.Sprintf(`fill="#08519c" fill-opacity="%.2f"`, min(share, 1)))
			}
		}
	}
}

// inUnit writes value in a unit of Grafana.
func inUnit(value float64, unit string) string {
	short := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
	switch {
	case unit == "percentunit":
		return strconv.FormatFloat(100*value, 'f', 1, 64) + " %"
	case unit == "bytes":
		return strconv.FormatFloat(value/(1<<20), 'f', 1, 64) + " MiB"
	case unit != "s":
		return short(value)
	case math.IsInf(value, 1):
		return "∞"
	case value == 0:
		return "0"
	case value >= 2*86400:
		return strconv.FormatFloat(value/86400, 'f', 0, 64) + " d"
	case value >= 2*3600:
		return strconv.FormatFloat(value/3600, 'f', 1, 64) + " h"
	case value >= 1:
		return short(value) + " s"
	case value >= 1e-3:
		return short(value*1e3) + " ms"
	}
	return short(value*1e6) + " µs"
}
