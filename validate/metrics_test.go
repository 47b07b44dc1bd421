package validate

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// Every series exists before the first request, and names and help pass promlint.
func TestMetrics(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	registry := prometheus.NewPedanticRegistry()
	options := localKeys(key)
	options.Metrics = NewMetrics(registry)
	v := newValidator(t, options, gatetest.AuthorizationServer())
	runUntilReady(t, v)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	for name, series := range map[string]int{
		"tallygate_token_validation_duration_seconds":   12,
		"tallygate_cache_requests_total":                7,
		"tallygate_cache_entries":                       2,
		"tallygate_cache_evictions_total":               2,
		"tallygate_jwks_last_success_timestamp_seconds": 1,
		"tallygate_jwks_keys":                           1,
		"tallygate_jwks_fetches_total":                  2,
		"tallygate_jwks_unknown_kid_total":              3,
	} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n != series {
			t.Errorf("%s: %d series (%v), want %d", name, n, err, series)
		}
	}

	raw := key.Token(bound())
	expect(t, v, raw, partner, access.Granted)
	expect(t, v, raw, partner, access.Granted)
	expect(t, v, raw, other, access.BoundToOther)
	expect(t, v, "x", partner, access.MalformedToken)
	expect(t, v, key.Token(bound(), M{"kid": "made up"}), partner, access.UnknownKey)
	want := `
# HELP tallygate_cache_entries Entries in a cache, by cache.
# TYPE tallygate_cache_entries gauge
tallygate_cache_entries{cache="introspection"} 0
tallygate_cache_entries{cache="jwt"} 1
# HELP tallygate_cache_requests_total Cache look-ups, by cache and result.
# TYPE tallygate_cache_requests_total counter
tallygate_cache_requests_total{cache="introspection",result="hit"} 0
tallygate_cache_requests_total{cache="introspection",result="miss"} 0
tallygate_cache_requests_total{cache="introspection",result="negative"} 0
tallygate_cache_requests_total{cache="introspection",result="shared"} 0
tallygate_cache_requests_total{cache="introspection",result="stale"} 0
tallygate_cache_requests_total{cache="jwt",result="hit"} 2
tallygate_cache_requests_total{cache="jwt",result="miss"} 3
# HELP tallygate_jwks_fetches_total Fetches of a key set, by issuer and result (ok, failed).
# TYPE tallygate_jwks_fetches_total counter
tallygate_jwks_fetches_total{issuer="partners",result="failed"} 0
tallygate_jwks_fetches_total{issuer="partners",result="ok"} 1
# HELP tallygate_jwks_keys Usable keys in a key set, by issuer.
# TYPE tallygate_jwks_keys gauge
tallygate_jwks_keys{issuer="partners"} 1
# HELP tallygate_jwks_unknown_kid_total Tokens with an unknown kid, by issuer and outcome: refreshed (caused a fetch), shared (waited for a fetch) or throttled (within the cool-down).
# TYPE tallygate_jwks_unknown_kid_total counter
tallygate_jwks_unknown_kid_total{issuer="partners",outcome="refreshed"} 0
tallygate_jwks_unknown_kid_total{issuer="partners",outcome="shared"} 0
tallygate_jwks_unknown_kid_total{issuer="partners",outcome="throttled"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "tallygate_cache_entries", "tallygate_cache_requests_total",
		"tallygate_jwks_fetches_total", "tallygate_jwks_keys", "tallygate_jwks_unknown_kid_total"); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		source, result string
		want           uint64
	}{{"local", "ok", 1}, {"local", "refused", 2}, {"cache", "ok", 1}, {"cache", "refused", 1}} {
		if got := observed(t, registry, c.source, c.result); got != c.want {
			t.Errorf("%s %s: %d validations, want %d", c.source, c.result, got, c.want)
		}
	}
}

// observed returns the number of validations with these labels.
func observed(t *testing.T, registry *prometheus.Registry, source, result string) uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "tallygate_token_validation_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["source"] == source && labels["result"] == result && labels["kind"] == "jwt" {
				return m.GetHistogram().GetSampleCount()
			}
		}
	}
	return 0
}
