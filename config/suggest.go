package config

import (
	"fmt"
	"strings"
)

// The bounds of the search for a name that was meant: it is a courtesy and must
// cost nothing on a file with a hundred thousand wrong names.
const (
	maxSuggestedLength = 64   // of either name; the longest that we configure
	maxCandidates      = 1000 // names to compare with
)

// suggest returns which of known was most likely meant by word, and "" when none
// is near: as many slips are allowed as word has letters, divided by four, and one.
func suggest(word string, known []string) string {
	if len(word) > maxSuggestedLength || len(known) > maxCandidates {
		return ""
	}
	best, least := "", 1+len(word)/4
	for _, k := range known {
		// With as many slips as k has letters, anything becomes k.
		if d := slips(strings.ToLower(word), strings.ToLower(k)); d <= least && d < len(k) {
			if d < least || best == "" {
				best, least = k, d
			}
		}
	}
	return best
}

// slips returns how many letters must be added, dropped, replaced or swapped with
// the next to turn a into b (the optimal string alignment distance).
func slips(a, b string) int {
	if len(b) > maxSuggestedLength {
		return len(b)
	}
	var before, last, row [maxSuggestedLength + 1]int // row i-2, i-1 and i of the table
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last = last, row
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := last[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			row[j] = min(replaced, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// didYouMean returns the end of a message about the unknown word: the suggestion,
// or nothing.
func didYouMean(word string, known []string) string {
	if s := suggest(word, known); s != "" {
		return fmt.Sprintf(", did you mean %q?", s)
	}
	return ""
}

// quote returns s in quotation marks for a message, cut when it is longer than any
// name that we configure.
func quote(s string) string {
	if len(s) > maxSuggestedLength {
		return fmt.Sprintf("%q…", s[:maxSuggestedLength])
	}
	return fmt.Sprintf("%q", s)
}
