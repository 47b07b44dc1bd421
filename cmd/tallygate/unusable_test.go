package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/gate"
)

// The log reports certificates that end a handshake, because the client gets only an alert: at
// intervals one line for each cause, with the address and advice.
func TestUnusableCertificates(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure("on_failure: respond", "on_failure: handshake")
	r.serve()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.check(err)
	ends := func(certificate tls.Certificate) {
		t.Helper()
		settings := r.client("northwind", "http/1.1")
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
		if status, err := knock(r.addresses[gate.PartnersListener], settings); err == nil {
			t.Errorf("answered with %d", status)
		}
	}
	for i := range 5 {
		ends(tls.Certificate{Certificate: [][]byte{{1, 2, byte(i)}}, PrivateKey: key}) // not DER
		ends(r.pairs["stranger"].TLS())
	}
	chain := r.pairs["northwind"].TLS()
	chain.Certificate = append(chain.Certificate, []byte{0x30, 0}) // an unneeded certificate that is not DER
	ends(chain)
	ends(hugeRSA(t, r.pairs["northwind-ca"]))
	if _, n := r.upstream.peek(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	r.check(r.stop())
	details := ""
	lines := r.lines("handshake failed: unusable client certificate")
	for _, line := range lines {
		if line["level"] != "WARN" || line["listener"] != "partners" || !strings.HasPrefix(line["remote"].(string), "127.0.0.1:") || line["advice"] == "" {
			t.Errorf("the log says %v", line)
		}
		details += line["detail"].(string) + "\n"
	}
	if n := len(lines); n < 3 || n > 5 {
		t.Errorf("%d lines for twelve handshakes", n)
	}
	for _, want := range []string{"failed to parse client certificate: x509: malformed certificate", "untrusted_certificate: the certificate chains to no anchor", "RSA key larger than"} {
		if strings.Count(details, want) != 1 {
			t.Errorf("want one line with %q in\n%s", want, details)
		}
	}
}
