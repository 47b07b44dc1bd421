package keyring

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// warnInterval is the time between warnings while an error lasts.
const warnInterval = time.Hour

// health logs when refreshing the keys fails: at the first failure, every warnInterval while
// refreshes continue to fail, and when a refresh succeeds again. It is not safe for concurrent use.
type health struct {
	log    *slog.Logger
	gauge  prometheus.Gauge
	since  time.Time // time of the first failure; zero if the last refresh succeeded
	warned time.Time // time of the last warning
}

// report records the result of a refresh. It uses the wall clock, and not Options.Now.
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
	c.log.Warn("signing keys not refreshed", "since", c.since, "error", err)
}
