package console

import (
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/explain"
)

// documentation is the URL of the project's files, for links to its pages.
const documentation = "https://github.com/tallygate/tallygate/blob/main/"

// unknownPartner is the partner of requests whose caller is not known, in logs and metrics.
const unknownPartner = "unknown"

// words explain an outcome.
type words struct {
	Means string `json:",omitempty"`
	Fault string `json:",omitempty"` // whose fault it usually is
	See   string `json:",omitempty"`
}

// meanings has the words for each label of a reason, a failure or an end of a request.
var meanings = func() map[string]words {
	all := make(map[string]words)
	for _, a := range explain.AllAdvice() {
		all[a.Label] = words{Means: "The request was granted and then failed.", Fault: a.Fault, See: documentation + "docs/reasons.md#" + a.Label}
	}
	for _, r := range access.Reasons() {
		w := all[r.String()]
		w.Means = r.Description()
		all[r.String()] = w
	}
	return all
}()

// isSerious reports whether an operator must act on an outcome, because the gate or the API is at fault, or
// because a token may be stolen.
func isSerious(reason string, failed bool) bool {
	return failed || reason == access.BoundToOther.String() || reason == access.BoundToOtherKey.String()
}

func minutesOf(n int) time.Duration { return time.Duration(n) * time.Minute }
