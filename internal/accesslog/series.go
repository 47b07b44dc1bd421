package accesslog

import (
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/policy"
)

// bindingReasons are the reasons for which a single request may be an attempt to use a stolen token.
var bindingReasons = []access.Reason{access.BoundToOther, access.BoundToPrevious}

// keyBindingReasons are bindingReasons for tokens that are bound to a key (DPoP).
var keyBindingReasons = []access.Reason{access.BoundToOtherKey, access.ReplayedDPoPProof}

// furtherReasons are the other reasons that an alert counts for each partner: a burst of calls that are not
// allowed, and all reasons for which the gate cannot decide.
var furtherReasons = func() []access.Reason {
	reasons := []access.Reason{access.APINotAllowed}
	for _, r := range access.Reasons() {
		if outcome(r) == "error" {
			reasons = append(reasons, r)
		}
	}
	return reasons
}()

// maxPartnerSeries bounds the series that createSeries makes for partners. A line of a scrape has some
// 110 bytes, so 20,000 series make 2.2 MB of each scrape.
const maxPartnerSeries = 20_000

// createSeries creates, with the value 0, the series that alerts need. Prometheus computes an increase
// from two samples of a series, so a series that begins at 1 hides the request that made it. For each
// partner and API these are the series of bindingReasons and then those of furtherReasons, as far as
// maxPartnerSeries allows. For requests without a known partner they are the series of all reasons.
func (m *Metrics) createSeries(cfg *config.Config) {
	labels := apiLabels(cfg)
	for _, api := range labels {
		m.createAPISeries(api)
	}
	binding := bindingReasons
	if cfg.TakesDPoP() {
		binding = slices.Concat(bindingReasons, keyBindingReasons)
	}
	left := maxPartnerSeries
	for _, reasons := range [][]access.Reason{binding, furtherReasons} {
		if left -= len(cfg.Partners.List) * len(labels) * len(reasons); left < 0 {
			return
		}
		m.createPartnerSeries(cfg, labels, reasons)
	}
}

// createPartnerSeries creates the series of each partner, API label and reason.
func (m *Metrics) createPartnerSeries(cfg *config.Config, labels []string, reasons []access.Reason) {
	for i := range cfg.Partners.List {
		for _, api := range labels {
			for _, reason := range reasons {
				m.decisions.WithLabelValues(string(cfg.Partners.List[i].Name), api, outcome(reason), reason.String())
			}
		}
	}
}

// createAPISeries creates the series of api that belong to no partner.
func (m *Metrics) createAPISeries(api string) {
	for _, reason := range access.Reasons() {
		if reason != access.Granted {
			m.decisions.WithLabelValues(unknownPartner, api, outcome(reason), reason.String())
		}
	}
	for _, f := range failureLabels[1:] {
		m.failures.WithLabelValues(api, f)
	}
}

// apiLabels returns the values that the label api has for requests to hosts of cfg.
func apiLabels(cfg *config.Config) []string {
	labels := make([]string, 0, len(cfg.APIs)+1)
	hosts := make(map[config.Host]bool)
	shared := false
	for i := range cfg.APIs {
		labels = append(labels, string(cfg.APIs[i].Name))
		for _, host := range cfg.APIs[i].Hosts {
			shared = shared || hosts[host]
			hosts[host] = true
		}
	}
	if shared {
		labels = append(labels, policy.Unmatched)
	}
	return labels
}
