package mtls

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/testpki"
)

// certificateBytes is at least the memory of a certificate, also of a certificate whose many short names
// take thirty times the memory of its DER.
func TestCertificateBytes(t *testing.T) {
	ca := testpki.NewCA("Root")
	for name, edit := range map[string]func(*x509.Certificate){
		"plain": func(*x509.Certificate) {},
		"URIs": func(c *x509.Certificate) {
			for i := range 500 {
				c.URIs = append(c.URIs, &url.URL{Scheme: "a", Opaque: fmt.Sprint(i)})
			}
		},
		"DNS names": func(c *x509.Certificate) { c.DNSNames = strings.Split(strings.Repeat("a ", 1000)+"a", " ") },
		"subject": func(c *x509.Certificate) {
			c.Subject.OrganizationalUnit = strings.Split(strings.Repeat("a ", 500)+"a", " ")
		},
		"constraints": func(c *x509.Certificate) {
			c.PermittedDNSDomains = strings.Split(strings.Repeat("a ", 500)+"a", " ")
			c.IsCA, c.BasicConstraintsValid = true, true
		},
		"long": func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("a", 5000) },
	} {
		der := ca.Leaf("a", edit).Cert.Raw
		const n = 200
		kept := make([]*x509.Certificate, n)
		before := heapInUse()
		for i := range kept {
			var err error
			if kept[i], err = x509.ParseCertificate(append([]byte(nil), der...)); err != nil {
				t.Fatal(err)
			}
		}
		used, counted := (heapInUse()-before)/n, certificateBytes(kept[0])
		t.Logf("%s: DER of %d bytes takes %d, counted as %d", name, len(der), used, counted)
		if used > counted {
			t.Errorf("%s: takes %d bytes, more than the %d that are counted", name, used, counted)
		}
		runtime.KeepAlive(kept)
	}
}

func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// T-ADD-04: certificates in headers use the common memory of the caches.
func TestMemoryOfCertificates(t *testing.T) {
	ca := testpki.NewCA("Root")
	trust := loadFronted(t, fronting("rfc9440"), ca)
	pool := cache.NewPool(1 << 18)
	trust.frontProxies.known, trust.verifications = cache.New[*connection](pool, maxCachedHeaders, nil), cache.New[*verification](pool, maxCachedChains, nil)
	for i := range 200 {
		r := sent("127.0.0.1", nil, "Client-Cert: "+rfc9440(ca.Leaf(fmt.Sprint(i)).Cert))
		if _, err := trust.Client(r); err != nil {
			t.Fatal(err)
		}
	}
	if bytes := pool.Bytes(); bytes > 1<<17 || bytes < 1<<15 {
		t.Errorf("%d bytes of one authority, want at most half of 256 KiB", bytes)
	}
}
