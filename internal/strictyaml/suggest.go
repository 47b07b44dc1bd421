package strictyaml

import (
	"fmt"
	"strings"
)

// The bounds of the search for a suggestion. With these bounds, a file with a hundred thousand wrong
// names is refused as fast as any other file.
const (
	maxSuggestedLength = 64   // maximum length of a name in bytes; our configuration has no longer name
	MaxCandidates      = 1000 // maximum number of known names; with more names, DidYouMean suggests nothing
)

// suggest returns the known name that word most likely stands for, or "" if all names have an edit
// distance of more than 1 + len(word)/4.
func suggest(word string, known []string) string {
	if len(word) > maxSuggestedLength || len(known) > MaxCandidates {
		return ""
	}
	best, least := "", 1+len(word)/4
	for _, k := range known {
		// With a distance of len(k), k and word have no letter in common.
		if d := editDistance(strings.ToLower(word), strings.ToLower(k)); d <= least && d < len(k) {
			if d < least || best == "" {
				best, least = k, d
			}
		}
	}
	return best
}

// editDistance returns the number of letters that must be added, dropped, replaced or swapped with the
// next letter to turn a into b (the optimal string alignment distance).
func editDistance(a, b string) int {
	if len(b) > maxSuggestedLength {
		return len(b)
	}
	var before, last, row [maxSuggestedLength + 1]int // the rows i-2, i-1 and i of the table
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

// DidYouMean returns the end of a message about an unknown word: a suggestion from known, or "".
func DidYouMean(word string, known []string) string {
	if s := suggest(word, known); s != "" {
		return fmt.Sprintf(", did you mean %q?", s)
	}
	return ""
}

// Quote returns s in quotation marks for a message. Text longer than any name in a configuration
// is truncated.
func Quote(s string) string {
	if len(s) > maxSuggestedLength {
		return fmt.Sprintf("%q…", s[:maxSuggestedLength])
	}
	return fmt.Sprintf("%q", s)
}
