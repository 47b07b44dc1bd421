// Package stats has the few numbers that the benchmark draws from many.
package stats

import (
	"cmp"
	"math"
	"slices"
)

// Median returns the middle of values, the mean of the two middle ones of an even number,
// and NaN of none. It leaves values in their order.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Percentile returns the smallest of sorted that at least the share p of them, 0 to 1, does
// not exceed (the nearest rank), and zero of none.
func Percentile[T cmp.Ordered](sorted []T, p float64) T {
	var zero T
	if len(sorted) == 0 {
		return zero
	}
	// 0.99 * 100 is a little less than 99 in floating point, 0.29 * 100 a little more than 29:
	// what is that near to a whole number is meant to be it.
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
