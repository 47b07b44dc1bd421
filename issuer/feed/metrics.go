package feed

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// The causes for which the issuer ends or refuses a stream.
const (
	bySlowness = "slow"     // the subscriber took nothing for WriteTimeout
	byRing     = "behind"   // the ring passed the snapshot that the subscriber was reading
	byRecheck  = "refused"  // the subscriber has lost the right to subscribe
	byEnd      = "stopping" // the process stops
	byFault    = "error"    // a message could not be signed
	byLimit    = "limit"    // the limit of subscribers is reached
	byClient   = "client"   // the subscriber has disconnected; not counted as dropped
)

type metrics struct {
	snapshots prometheus.Counter
	dropped   *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer, f *Feed) (*metrics, error) {
	m := &metrics{
		snapshots: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tallygate_issuer_revocation_snapshots_total",
			Help: "Snapshots of all revocations that were made and signed. Subscribers share them.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_issuer_revocation_subscribers_dropped_total",
			Help: "Streams of revocations that the issuer ended or refused, by cause: slow, behind, refused, stopping, error or limit.",
		}, []string{"cause"}),
	}
	for _, cause := range []string{bySlowness, byRing, byRecheck, byEnd, byFault, byLimit} {
		m.dropped.WithLabelValues(cause)
	}
	subscribers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_issuer_revocation_subscribers", Help: "Open streams of revocations to gates.",
	}, func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return float64(f.streams.open)
	})
	sequence := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_issuer_revocation_sequence", Help: "The number up to which this issuer has read the log of revocations.",
	}, func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return float64(f.ring.head)
	})
	for _, c := range []prometheus.Collector{m.snapshots, m.dropped, subscribers, sequence} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics of the revocation feed: %w", err)
		}
	}
	return m, nil
}
