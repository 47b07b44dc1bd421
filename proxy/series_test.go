package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// addAPI adds an API on the host of accounts.
func addAPI(cfg *config.Config) {
	payments := cfg.APIs[0]
	payments.Name = "payments"
	payments.Routes = slices.Clone(payments.Routes)
	if err := payments.Routes[0].Path.UnmarshalText([]byte("/payments/{id}")); err != nil {
		panic(err)
	}
	cfg.APIs = append(cfg.APIs, payments)
}

// Prometheus sees the first theft, and the first failure of each API, only if their series exist before.
func TestSeriesExistAtZero(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard, addAPI)
	zeros := seriesOf(t, s, "tallygate_decisions_total", "tallygate_upstream_errors_total")
	for _, want := range []string{
		`tallygate_decisions_total{api="accounts",decision="deny",partner="northwind",reason="bound_to_other"} 0`,
		`tallygate_decisions_total{api="payments",decision="deny",partner="northwind",reason="bound_to_other"} 0`,
		`tallygate_decisions_total{api="unmatched",decision="deny",partner="northwind",reason="bound_to_other"} 0`,
		`tallygate_decisions_total{api="payments",decision="deny",partner="northwind",reason="bound_to_previous"} 0`,
		`tallygate_decisions_total{api="payments",decision="deny",partner="northwind",reason="api_not_allowed"} 0`,
		`tallygate_decisions_total{api="payments",decision="error",partner="northwind",reason="issuer_unavailable"} 0`,
		`tallygate_decisions_total{api="payments",decision="deny",partner="unknown",reason="bound_to_other"} 0`,
		`tallygate_decisions_total{api="accounts",decision="error",partner="unknown",reason="undecided"} 0`,
		`tallygate_decisions_total{api="none",decision="deny",partner="unknown",reason="misdirected"} 0`,
		`tallygate_upstream_errors_total{api="payments",reason="upstream_unreachable"} 0`,
	} {
		if !slices.Contains(zeros, want) {
			t.Errorf("the metrics at the start lack %s", want)
		}
	}
	if slices.ContainsFunc(zeros, func(series string) bool {
		return strings.Contains(series, "dpop") && strings.Contains(series, "northwind")
	}) {
		t.Error("series of a partner for DPoP proofs, which no API accepts")
	}
	// A reload adds the series of the partners and APIs that it adds.
	s.next(t, addAPI, func(cfg *config.Config) {
		second := cfg.Partners.List[0]
		second.Name = "borealis"
		second.Applications = nil
		cfg.Partners.List = append(cfg.Partners.List, second)
		cfg.APIs[1].Binding = config.BoundToEither
	})
	zeros = seriesOf(t, s, "tallygate_decisions_total")
	for _, reason := range []access.Reason{access.BoundToOther, access.BoundToPrevious, access.BoundToOtherKey, access.ReplayedDPoPProof} {
		want := `tallygate_decisions_total{api="payments",decision="deny",partner="borealis",reason="` + reason.String() + `"} 0`
		if !slices.Contains(zeros, want) {
			t.Errorf("the metrics after a reload lack %s", want)
		}
	}
}

// seriesOf returns the series of the named metrics, each with its value.
func seriesOf(t *testing.T, s *harness, names ...string) (series []string) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if !slices.Contains(names, family.GetName()) {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := make([]string, len(m.GetLabel()))
			for i, l := range m.GetLabel() {
				labels[i] = fmt.Sprintf("%s=%q", l.GetName(), l.GetValue())
			}
			series = append(series, fmt.Sprintf("%s{%s} %v", family.GetName(), strings.Join(labels, ","), m.GetCounter().GetValue()))
		}
	}
	return series
}

// metric returns the value of a series, which is written as in a scrape.
func (s *harness) metric(t *testing.T, series string) float64 {
	t.Helper()
	name, _, _ := strings.Cut(series, "{")
	for _, line := range seriesOf(t, s, name) {
		if text, found := strings.CutPrefix(line, series+" "); found {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	return 0
}

// Each request counts for the API that its host and path name, also if it is refused before the client is
// known.
func TestDecisionsByAPI(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard, addAPI)
	for _, c := range []struct {
		edit                func(*http.Request)
		reason              access.Reason
		partner, api, route string
	}{
		{func(r *http.Request) { r.TLS = nil }, access.NoCertificate, "unknown", "accounts", "/accounts/{id}"},
		{func(r *http.Request) { r.TLS = nil; path(r, "/payments/7") }, access.NoCertificate, "unknown", "payments", "/payments/{id}"},
		{func(r *http.Request) { r.TLS = nil; path(r, "/payments/7/8") }, access.NoCertificate, "unknown", "payments", "unmatched"},
		{func(r *http.Request) { r.TLS = nil; path(r, "/elsewhere") }, access.NoCertificate, "unknown", "unmatched", "unmatched"},
		{func(r *http.Request) { path(r, "/payments/7") }, access.APINotAllowed, "northwind", "payments", "/payments/{id}"},
		{func(r *http.Request) { path(r, "/accounts/../7") }, access.PathNotCanonical, "northwind", "unmatched", "unmatched"},
		{func(r *http.Request) { r.Host = "elsewhere.test" }, access.Misdirected, "northwind", "none", "unmatched"},
	} {
		decisions := fmt.Sprintf(`tallygate_decisions_total{api=%q,decision="deny",partner=%q,reason=%q}`, c.api, c.partner, c.reason)
		before := s.metric(t, decisions)
		r, w := s.request(), httptest.NewRecorder()
		c.edit(r)
		s.proxy.ServeHTTP(w, r)
		if got := s.metric(t, decisions) - before; got != 1 {
			t.Errorf("%s %s: %v decisions with reason %s and API %s, want 1", r.Host, r.RequestURI, got, c.reason, c.api)
		}
		requests := fmt.Sprintf(`tallygate_requests_total{api=%q,code="%d",partner=%q,route=%q}`, c.api, w.Code, c.partner, c.route)
		if got := s.metric(t, requests); got != 1 {
			t.Errorf("%s %s: %v requests with API %s and route %s, want 1", r.Host, r.RequestURI, got, c.api, c.route)
		}
	}
}

// path changes the path of r.
func path(r *http.Request, path string) {
	r.RequestURI, r.URL.Path, r.URL.RawPath, r.URL.RawQuery = path, path, "", ""
}
