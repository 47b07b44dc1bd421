package validate

import (
	"context"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// typical returns a token with typical claims and a Validator for it.
func typical(t testing.TB, algorithm string, entries int) (*Validator, string) {
	key := testpki.NewSigner(algorithm, "2026-11")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer(gatetest.Algorithms(config.Algorithm(algorithm)), func(s *config.AuthorizationServer) { s.Cache.Entries = entries }))
	raw := key.Token(bound(M{"scope": "accounts:read accounts:write payments:read", "aud": []string{audience, "https://other.example"}}))
	expect(t, v, raw, partner, access.Granted)
	return v, raw
}

// The hot path of JWTs: 2 µs and 3 allocations.
func BenchmarkHit(b *testing.B) {
	v, raw := typical(b, "ES256", 1000)
	cert := certificate(partner)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Validate(context.Background(), Credentials{Token: raw}, cert); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHitParallel(b *testing.B) {
	v, raw := typical(b, "ES256", 1000)
	cert := certificate(partner)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := v.Validate(context.Background(), Credentials{Token: raw}, cert); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkCold(b *testing.B) {
	for _, algorithm := range []string{"ES256", "PS256", "EdDSA", "RS256"} {
		b.Run(algorithm, func(b *testing.B) {
			v, raw := typical(b, algorithm, 0)
			cert := certificate(partner)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Validate(context.Background(), Credentials{Token: raw}, cert); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestHitAllocations(t *testing.T) {
	v, raw := typical(t, "ES256", 1000)
	cert := certificate(partner)
	if n := testing.AllocsPerRun(1000, func() { _, _ = v.Validate(context.Background(), Credentials{Token: raw}, cert) }); n > 0 {
		t.Errorf("%v allocations on a hit, want none", n)
	}
}

// introspected returns a cached opaque token and a Validator for it.
func introspected(t testing.TB) (*Validator, string) {
	a := newAuthority(t)
	const raw = "mF_9.B5f-4.1JqM-0123456789abcdefghijklmnopq"
	a.knows(raw, activeResponse(M{"scope": "accounts:read accounts:write payments:read"}))
	v := newValidator(t, Options{}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly)))
	expect(t, v, raw, partner, access.Granted)
	return v, raw
}

// The hot path of opaque tokens: 2 µs and 3 allocations.
func BenchmarkIntrospectedHit(b *testing.B) {
	v, raw := introspected(b)
	cert := certificate(partner)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Validate(context.Background(), Credentials{Token: raw}, cert); err != nil {
			b.Fatal(err)
		}
	}
}

// A token that is introspected over TLS on this machine.
func BenchmarkIntrospectedCold(b *testing.B) {
	a := newAuthority(b)
	v := newValidator(b, Options{}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly, func(i *config.Introspection) { i.Cache.MaxAge = 0 })))
	a.knows("opaque", activeResponse())
	cert := certificate(partner)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Validate(context.Background(), Credentials{Token: "opaque"}, cert); err != nil {
			b.Fatal(err)
		}
	}
}

func TestIntrospectedHitAllocations(t *testing.T) {
	v, raw := introspected(t)
	cert := certificate(partner)
	if n := testing.AllocsPerRun(1000, func() { _, _ = v.Validate(context.Background(), Credentials{Token: raw}, cert) }); n > 0 {
		t.Errorf("%v allocations on a hit, want none", n)
	}
}
