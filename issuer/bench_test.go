package issuer_test

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/issuer"
)

// BenchmarkToken measures the token endpoint without the network. Most of the time of a JWT is
// its signature (keyring.BenchmarkSign), most of the time of an opaque token the disk
// (store.BenchmarkAddToken), which concurrent requests share.
func BenchmarkToken(b *testing.B) {
	for _, c := range []struct {
		name   string
		format config.TokenFormat
		atOnce int
	}{{"jwt", config.JWT, 1}, {"opaque", config.Opaque, 1}, {"opaque, 64 at once", config.Opaque, 64}} {
		b.Run(c.name, func(b *testing.B) {
			handler := newHandler(b, c.format)
			ask := func() {
				r := httptest.NewRequest("POST", "/token", strings.NewReader(good))
				r.Header = form.Clone()
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{ledger.Cert}}
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Errorf("answered %d %s", w.Code, w.Body)
				}
			}
			b.ReportAllocs()
			if c.atOnce == 1 {
				for b.Loop() {
					ask()
				}
				return
			}
			b.SetParallelism(c.atOnce / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ask()
				}
			})
		})
	}
}

func newHandler(b *testing.B, format config.TokenFormat) http.Handler {
	b.Helper()
	a := app("northwind-ledger", "ledger.northwind.example", "accounts:read", "accounts:write")
	a.TokenFormat = format
	unlimited := config.Rate{RequestsPerSecond: 1 << 30, Burst: 1 << 30}
	i, err := issuer.New(&config.Config{
		Issuer: &config.Issuer{
			Issuer: "https://as.example.com", State: config.Path(b.TempDir()), Audience: audience, TokenLifetime: lifetime,
			Signing: config.Signing{Algorithm: config.ES256, Rotate: 24 * time.Hour},
			Limits:  config.IssuerLimits{PerClient: unlimited, PerAddress: unlimited},
		},
		Partners: config.Partners{List: []config.Partner{{Name: "northwind", Applications: []config.Application{a}}}},
	}, issuer.Options{
		Anchors: map[config.Name][]access.AnchorKey{"northwind": {anchor(northCA.Cert)}},
		Certificate: func(r *http.Request) (*access.Certificate, error) {
			leaf := r.TLS.PeerCertificates[0]
			return &access.Certificate{Leaf: leaf, Thumbprint: access.ThumbprintOf(leaf), Anchors: []access.AnchorKey{anchor(northCA.Cert)}}, nil
		},
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Lease: new(reuse.Pool).Lease(),
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := i.Open(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = i.Close() })
	return i
}
