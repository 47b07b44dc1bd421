// Package stats computes medians and percentiles.
package stats

import (
	"cmp"
	"math"
	"slices"
)

// Median returns the median of values: the mean of the two middle values when their number is even, and NaN
// without values. It does not change the order of values.
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

// Percentile returns the smallest value of sorted such that at least the share p of all values, between 0
// and 1, does not exceed it (nearest rank). It returns zero without values.
func Percentile[T cmp.Ordered](sorted []T, p float64) T {
	var zero T
	if len(sorted) == 0 {
		return zero
	}
	// In floating point 0.28 * 100 is slightly more than 28, and its ceiling would be 29.
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
