package keyring

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// warnInterval spaces the warnings of a fault that lasts.
const warnInterval = time.Hour

// A condition tells of the looks at the keys: of a fault when it begins, now and then
// while it lasts, and when it has ended. It is for one goroutine at a time.
type health struct {
	log    *slog.Logger
	gauge  prometheus.Gauge
	since  time.Time // of the fault; zero: there is none
	warned time.Time // when it was warned of last
}

// report takes what came of a look. The times are those of the looks, not of the keys.
func (c *health) report(err error) {
	now := time.Now()
	switch {
	case err == nil:
		c.gauge.Set(1)
		if !c.since.IsZero() {
			c.log.Info("signing keys refreshed again", "since", c.since)
			c.since = time.Time{}
		}
		return
	case c.since.IsZero():
		c.since = now
	case now.Sub(c.warned) < warnInterval:
		return
	}
	c.gauge.Set(0)
	c.warned = now
	c.log.Warn("signing keys not refreshed", "since", c.since, "err", err)
}
