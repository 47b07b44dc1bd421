package certname

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"
)

// Any client can present a certificate with thousands of names, and the log names each refused certificate.
// List therefore takes time in proportion to the number of names.
func TestListTime(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parsed := func(n int, add func(c *x509.Certificate, i int)) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		for i := range n {
			add(c, i)
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c
	}
	const few, many = 500, 4000
	// linear runs until the best time of many names is at most 24 times the best time of few names. Linear growth
	// is 4000/500 = 8 times, quadratic growth 64 times. Other processes make single runs longer, so linear
	// compares the best times.
	linear := func(name string, want [2]int, certs [2]*x509.Certificate) {
		best := [2]time.Duration{time.Hour, time.Hour}
		for range 500 { // of some 10 ms each under load
			for i, cert := range certs {
				begin := time.Now()
				if got := len(List(cert)); got != want[i] {
					t.Fatalf("%s: List has %d names, want %d", name, got, want[i])
				}
				best[i] = min(best[i], time.Since(begin))
			}
			if best[1] <= 24*best[0] {
				return
			}
		}
		t.Errorf("%s: List takes %s for %d names and %s for %d names, want about 8 times as long", name, best[0], few, best[1], many)
	}
	for name, add := range map[string]func(c *x509.Certificate, i int){
		"san_dns": func(c *x509.Certificate, i int) { c.DNSNames = append(c.DNSNames, fmt.Sprintf("a%d.test", i)) },
		"san_uri": func(c *x509.Certificate, i int) {
			c.URIs = append(c.URIs, &url.URL{Scheme: "a", Host: "b", Path: fmt.Sprintf("/%d", i)})
		},
		"san_ip": func(c *x509.Certificate, i int) {
			c.IPAddresses = append(c.IPAddresses, net.IPv4(10, 0, byte(i>>8), byte(i)))
		},
		"san_email": func(c *x509.Certificate, i int) {
			c.EmailAddresses = append(c.EmailAddresses, fmt.Sprintf("%d@a.test", i))
		},
	} {
		linear(name, [2]int{few, many}, [2]*x509.Certificate{parsed(few, add), parsed(many, add)})
	}
	subject := func(n int) *x509.Certificate {
		var set pkix.RelativeDistinguishedNameSET
		for i := range n {
			set = append(set, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 3, i}, Value: "x"})
		}
		raw, err := asn1.Marshal(pkix.RDNSequence{set})
		if err != nil {
			t.Fatal(err)
		}
		return &x509.Certificate{RawSubject: raw}
	}
	linear("subject_dn", [2]int{1, 1}, [2]*x509.Certificate{subject(few), subject(many)})
}
