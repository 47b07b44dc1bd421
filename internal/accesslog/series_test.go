package accesslog

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A configuration with very many partners and APIs gets no series for each pair. Theft comes before the
// other reasons.
func TestSeriesAreBounded(t *testing.T) {
	for _, c := range []struct{ partners, perPartner int }{
		{maxPartnerSeries, 0},
		{maxPartnerSeries / 4, 4},
		{10, 2 * (len(bindingReasons) + len(furtherReasons))},
	} {
		registry := prometheus.NewPedanticRegistry()
		metrics := NewMetrics(registry)
		count := func() int {
			n, err := testutil.GatherAndCount(registry, "tallygate_decisions_total")
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := count()
		var cfg config.Config
		for i := range c.partners {
			cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: config.Name(fmt.Sprint("p", i))})
		}
		cfg.APIs = []config.API{{Name: "invoices"}, {Name: "payments"}}
		metrics.createSeries(&cfg)
		unknown := 2 * (len(access.Reasons()) - 1) // without granted
		if added, want := count()-before, unknown+c.partners*c.perPartner; added != want {
			t.Errorf("%d new series for %d partners, want %d", added, c.partners, want)
		}
	}
}
