package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

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
	lines := r.lines("handshake failed")
	for _, line := range lines {
		if line["level"] != "WARN" || line["listener"] != "partners" || !strings.HasPrefix(line["remote"].(string), "127.0.0.1:") || line["advice"] == "" {
			t.Errorf("the log says %v", line)
		}
		details += line["error"].(string) + "\n"
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

// A certificate that crypto/x509 cannot parse ends the handshake before the gate sees the certificate,
// for every value of on_failure. The log names each fault once in ten seconds, and no request is
// answered or forwarded.
func TestUnparsedCertificates(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	private, san := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 1}, asn1.ObjectIdentifier{2, 5, 29, 17}
	faults := map[string][]pkix.Extension{
		"x509: certificate contains duplicate extension": {{Id: private, Value: []byte{5, 0}}, {Id: private, Value: []byte{5, 0}}},
		"x509: SAN dNSName is malformed":                 {{Id: san, Value: []byte{0x30, 4, 0x82, 2, 0xC3, 0xBC}}},
		"x509: cannot parse IP address of length":        {{Id: san, Value: []byte{0x30, 5, 0x87, 3, 1, 2, 3}}},
		"x509: invalid basic constraints":                {{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{4, 1, 0}}},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.check(err)
	ca := r.pairs["northwind-ca"]
	for _, extensions := range faults {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtraExtensions: extensions,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, key.Public(), ca.Key)
		r.check(err)
		good := r.pairs["northwind"].TLS()
		for _, chain := range []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}, {Certificate: append(slices.Clone(good.Certificate), der), PrivateKey: good.PrivateKey}} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				settings := r.client("northwind", "http/1.1")
				settings.MinVersion, settings.MaxVersion = version, version
				settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &chain, nil }
				if status, err := knock(r.addresses[gate.PartnersListener], settings); err == nil {
					t.Errorf("%s: answered with %d, want the handshake to fail", tls.VersionName(version), status)
				}
			}
		}
	}
	if _, n := r.upstream.peek(); n != 0 {
		t.Errorf("%d requests reached the upstream, want none", n)
	}
	r.check(r.stop())
	lines := r.lines("handshake failed")
	for fault := range faults {
		n := 0
		for _, line := range lines {
			if strings.Contains(line["error"].(string), fault) && line["level"] == "WARN" && line["advice"] != "" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d lines with %q, want 1, in %v", n, fault, lines)
		}
	}
}
