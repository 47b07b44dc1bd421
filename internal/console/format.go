package console

import (
	"fmt"
	"strconv"
	"time"
)

// ago returns the distance of t from now in words.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d < 0:
		return "in " + distance(-d)
	case d < 5*time.Second:
		return "just now"
	}
	return distance(d) + " ago"
}

// distance returns d in its largest unit, rounded down.
func distance(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return plural(int(d/time.Second), "second")
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 2*day:
		return plural(int(d/time.Hour), "hour")
	case d < 2*365*day:
		return plural(int(d/day), "day")
	}
	return plural(int(d/(365*day)), "year")
}

// plural returns n with unit, in the plural unless n is 1.
func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return number(n) + " " + unit + "s"
}

// number returns n with a comma between groups of three digits.
func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// percent returns part of whole in percent.
func percent(part, whole int) string {
	if whole == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.3g %%", 100*float64(part)/float64(whole))
}
