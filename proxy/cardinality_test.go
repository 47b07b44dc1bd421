package proxy

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-MET-01: the number of series does not depend on what clients send. 10,000 requests have new values in
// everything that a client can choose, and each value occurs with refusals in every stage.
func TestCallersMakeNoSeries(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard, addAPI, func(cfg *config.Config) { cfg.Log = config.Default().Log })
	strangers := testpki.NewCA("Strangers")
	certificates := func(i int) []*x509.Certificate {
		switch i % 5 {
		case 0:
			return []*x509.Certificate{strangers.Leaf(fmt.Sprint("stranger ", i)).Cert}
		case 1:
			return []*x509.Certificate{s.ca.Leaf(fmt.Sprint("leaf ", i), testpki.DNS(fmt.Sprintf("leaf%d.test", i))).Cert}
		case 2:
			return nil
		}
		return []*x509.Certificate{s.client.Cert}
	}
	// Each edit takes a new value from i. The edits of a request are chosen by i too, so that all of them meet.
	edits := []func(r *http.Request, i int){
		func(*http.Request, int) {},
		func(r *http.Request, i int) { r.Method = fmt.Sprint("M", i) },
		func(r *http.Request, i int) { path(r, fmt.Sprintf("/nowhere/%d", i)) },
		func(r *http.Request, i int) { path(r, fmt.Sprintf("/accounts/%d", i)) },
		func(r *http.Request, i int) { path(r, fmt.Sprintf("/payments/%d//x", i)) },
		func(r *http.Request, i int) {
			r.RequestURI += fmt.Sprintf("&q%d=%d", i, i)
			r.URL.RawQuery += fmt.Sprintf("&q%d=%d", i, i)
		},
		func(r *http.Request, i int) { r.Host = fmt.Sprintf("h%d.example.test", i) },
		func(r *http.Request, i int) { r.TLS.ServerName = fmt.Sprintf("sni%d.example.test", i) },
		func(r *http.Request, i int) { r.Header.Set("Authorization", fmt.Sprintf("Scheme%d token", i)) },
		func(r *http.Request, i int) { r.Header.Set("Authorization", fmt.Sprintf("Bearer garbage%d", i)) },
		func(r *http.Request, i int) {
			r.Header.Set("Authorization", "Bearer "+s.mint(s.client, testpki.M{"iss": fmt.Sprintf("https://as%d.test", i)}))
		},
		func(r *http.Request, i int) {
			name := fmt.Sprint("client ", i)
			r.Header.Set("Authorization", "Bearer "+s.mint(s.client, testpki.M{"client_id": name, "sub": name, "jti": name, "scope": name}))
		},
		func(r *http.Request, i int) {
			r.Header.Set("Authorization", "Bearer "+testpki.NewSigner("ES256", fmt.Sprint("k", i)).Token(testpki.M{"iss": "https://as.example.test"}))
		},
		func(r *http.Request, i int) { r.ProtoMinor = i % 4 },
		func(r *http.Request, i int) {
			r.Header.Set("Upgrade", fmt.Sprint("protocol", i))
			r.Header.Set("Connection", "Upgrade")
		},
	}
	send := func(from, to int) {
		for i := from; i < to; i++ {
			r := s.request()
			r.TLS.PeerCertificates = certificates(i)
			for _, name := range []string{"User-Agent", "X-Forwarded-For", "X-Request-Id", "Origin", "Traceparent", fmt.Sprint("X-Header-", i)} {
				r.Header.Set(name, fmt.Sprint(i))
			}
			edits[i/5%len(edits)](r, i)
			s.proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	count := func() int {
		n, err := testutil.GatherAndCount(s.registry)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	each := 5 * len(edits) * 2 // each pair of a certificate and an edit, twice
	send(0, each)
	before := count()
	send(each, each+10_000)
	if after := count(); after != before {
		t.Errorf("%d series before 10,000 requests, %d after", before, after)
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.ContainsAny(l.GetValue(), "0123456789") && l.GetName() != "code" && l.GetName() != "code_class" {
					t.Errorf("%s has %s=%q, which a client has sent", family.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}

// T-MET-01: an API that answers with a status of the caller's choice makes a series for each registered code, and
// one series for each class of other codes.
func TestMirroredStatusesShareSeries(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/accounts/"))
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
	}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard)
	for status := 200; status <= 999; status++ {
		r := s.request()
		path(r, fmt.Sprintf("/accounts/%d", status))
		w := httptest.NewRecorder()
		if s.proxy.ServeHTTP(w, r); w.Code != status && status <= 599 {
			t.Errorf("the status is %d, want %d", w.Code, status)
		}
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if family.GetName() == "tallygate_requests_total" && l.GetName() == "code" {
					counts[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	if len(counts) > 70 { // 58 registered codes from 200, 499, 2xx to 5xx, and other: 64
		t.Errorf("%d values of code: %v", len(counts), counts)
	}
	for code, want := range map[string]float64{"200": 1, "404": 1, "499": 1, "2xx": 90, "4xx": 70} {
		if counts[code] != want {
			t.Errorf("%v requests with code %q, want %v", counts[code], code, want)
		}
	}
}
