package issuer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/issuer/feed"
)

// RevocationStatus is what an issuer knows of revocations, for operators.
type RevocationStatus struct {
	Feed    feed.Status
	Unknown error // why the issuer may have missed a revocation; nil if it knows all
}

// RevocationStatus returns what i knows of revocations.
func (i *Issuer) RevocationStatus() RevocationStatus {
	return RevocationStatus{i.feed.Status(), i.current()}
}

// registerCurrent registers the gauge of whether s knows all revocations.
func (s *shared) registerCurrent(registerer prometheus.Registerer) error {
	return registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_issuer_revocations_current",
		Help: "1 while this issuer knows all revocations, and 0 while its database is away or the issuer is behind. At 0 it issues no tokens.",
	}, func() float64 {
		if s.current() != nil {
			return 0
		}
		return 1
	}))
}
