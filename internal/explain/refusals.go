package explain

import (
	"net/http"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A Refusal is a refusal by a check that comes after the check that decided.
type Refusal struct {
	Status int    `json:"status"`
	Reason string `json:"reason"`
	Stage
}

// AddRefusals adds the refusals of r by later checks. Each reason appears once, and the reason of e not
// at all. cert is nil unless the certificate was accepted.
func (e *Explanation) AddRefusals(cfg *config.Config, r *http.Request, refused []access.Decision, cert *access.Certificate) {
	said := map[string]bool{e.Reason: true} // two checks may refuse with one reason
	for _, d := range refused {
		if said[d.Reason.String()] {
			continue
		}
		said[d.Reason.String()] = true
		x := &explainer{cfg: cfg, request: r, decision: d, certificate: cert}
		also := Refusal{Status: d.Reason.Status(), Reason: d.Reason.String(), Stage: Stage{Stage: d.Reason.Stage(), Verdict: wouldRefuse}}
		x.describeRefusal(&also.Stage)
		e.Also = append(e.Also, also)
	}
}
