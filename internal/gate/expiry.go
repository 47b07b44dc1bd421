package gate

import "time"

// Values of the label role of tallygate_certificate_not_after_timestamp_seconds.
const (
	serverRole   = "server"    // the label name is the name of a listener
	clientCARole = "client_ca" // the label name is the name of a partner
)

// exportExpiry exports the end of validity of each listener's certificate and of each partner's anchors, and
// logs a warning for each expired certificate. Anchors of a disabled partner are left out.
func (s *state) exportExpiry(in *telemetry) {
	for name, pair := range s.keyPairs {
		in.expiries.WithLabelValues(serverRole, name).Set(float64(pair.Leaf.NotAfter.Unix()))
		if time.Now().After(pair.Leaf.NotAfter) {
			in.log.Warn("listener certificate has expired", "listener", name, "not_after", pair.Leaf.NotAfter)
		}
	}
	in.expiries.DeletePartialMatch(map[string]string{"role": clientCARole}) // a reload may have removed a partner
	ends := s.Trust.AnchorsEnd()
	for i := range s.cfg.Partners.List {
		partner := &s.cfg.Partners.List[i]
		end := ends[partner.Name]
		if end.IsZero() || partner.Disabled {
			continue
		}
		in.expiries.WithLabelValues(clientCARole, string(partner.Name)).Set(float64(end.Unix()))
		if time.Now().After(end) {
			in.log.Warn("anchor of client certificates has expired", "partner", string(partner.Name), "not_after", end)
		}
	}
}
