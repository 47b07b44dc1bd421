package issuer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer"
)

// BenchmarkToken measures the token endpoint without the network, on a file and on a PostgreSQL server
// of this machine that syncs its files. Most of the time of a JWT is its signature
// (keyring.BenchmarkSign), most of the time of an opaque token the disk (store.BenchmarkAddToken), which
// concurrent requests share. cpu-µs/op is the time of this process on all cores, without the server's.
func BenchmarkToken(b *testing.B) {
	for _, c := range []struct {
		name     string
		format   config.TokenFormat
		atOnce   int
		database bool
	}{
		{"jwt", config.JWT, 1, false}, {"opaque", config.Opaque, 1, false}, {"opaque, 64 at once", config.Opaque, 64, false},
		{"jwt, PostgreSQL", config.JWT, 1, true}, {"opaque, PostgreSQL", config.Opaque, 1, true}, {"opaque, PostgreSQL, 64 at once", config.Opaque, 64, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			var edits []func(*config.Config)
			if c.database {
				server := testpostgres.Start(b, "fsync=on", "full_page_writes=on", "max_wal_size=1GB", "shared_buffers=128MB")
				edits = append(edits, onDatabase(b, server))
			}
			handler := newHandler(b, c.format, edits...)
			before := cpuTime(b)
			defer func() { b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op") }()
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
			b.ResetTimer() // without the start of the server
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ask()
				}
			})
		})
	}
}

// cpuTime returns the processor time of this process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func newHandler(b *testing.B, format config.TokenFormat, edits ...func(*config.Config)) http.Handler {
	b.Helper()
	a := app("northwind-ledger", "ledger.northwind.example", "accounts:read", "accounts:write")
	a.TokenFormat = format
	unlimited := config.Rate{RequestsPerSecond: 1 << 30, Burst: 1 << 30}
	cfg := &config.Config{
		Issuer: &config.Issuer{
			Issuer: "https://as.example.com", State: config.Path(b.TempDir()), Audience: audience, TokenLifetime: lifetime,
			Signing: config.Signing{Algorithm: config.ES256, Rotate: 24 * time.Hour},
			Limits:  config.IssuerLimits{PerClient: unlimited, PerAddress: unlimited},
		},
		Partners: config.Partners{List: []config.Partner{{Name: "northwind", Applications: []config.Application{a}}}},
	}
	for _, edit := range edits {
		edit(cfg)
	}
	i, err := issuer.New(cfg, issuer.Options{
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
	if err := i.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		<-done
		_ = i.Close()
	})
	return i
}
