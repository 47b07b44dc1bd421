package subscriber

import "github.com/prometheus/client_golang/prometheus"

// Metrics has the series of the feed of revocations. They exist while a lease holds a [Subscriber].
type Metrics struct{}

// NewMetrics returns metrics registered with registerer, which may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics { return &Metrics{} }
