package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// T-LOG-05: each failed handshake is counted by its cause, and the log has one warning for each cause and
// address, with advice. A connection that just ends is no warning.
func TestHandshakeCauses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		onFailure, cause, result, version string
		handshake                         func(r *reloading, address string)
		partner                           any
	}{
		{"respond", "gate_certificate_not_trusted", "failed", "", with(func(s *tls.Config) { s.RootCAs = x509.NewCertPool() }), nil},
		{"respond", "gate_certificate_not_trusted", "failed", "", with(func(s *tls.Config) { s.ServerName, s.MaxVersion = "other.test", tls.VersionTLS12 }), nil},
		{"respond", "no_common_version", "failed", "", with(func(s *tls.Config) { s.MinVersion, s.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), nil},
		{"respond", "no_common_parameters", "failed", "", with(func(s *tls.Config) { s.NextProtos = []string{"spdy/3"} }), nil},
		{"respond", "no_common_parameters", "failed", "", with(func(s *tls.Config) {
			s.MaxVersion, s.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}), nil},
		{"respond", "not_tls", "failed", "", func(r *reloading, address string) { say(r, address, "GET / HTTP/1.1\r\n\r\n") }, nil},
		{"respond", "closed", "failed", "", func(r *reloading, address string) { say(r, address, "") }, nil},
		{"handshake", "no_certificate", "failed", "", with(func(s *tls.Config) { s.GetClientCertificate = nil }), nil},
		{"handshake", "untrusted_certificate", "refused", "TLS 1.3", func(r *reloading, address string) { _, _ = knock(address, r.client("stranger", "http/1.1")) }, nil},
		{"handshake", "expired_certificate", "refused", "TLS 1.3", func(r *reloading, address string) { _, _ = knock(address, r.client("expired", "http/1.1")) }, "northwind"},
	} {
		t.Run(c.onFailure+" "+c.cause, func(t *testing.T) {
			t.Parallel()
			r := newReloading(t)
			r.configure("on_failure: respond", "on_failure: "+c.onFailure)
			r.serve()
			series := fmt.Sprintf(`tallygate_tls_handshakes_total{reason=%q,result=%q,version=%q}`, c.cause, c.result, c.version)
			if n, err := r.metric(series); err != nil || n != 0 {
				t.Errorf("%s = %v, %v before the first handshake, want 0", series, n, err)
			}
			before, err := r.sum(`tallygate_tls_handshakes_total\{.*\}`)
			r.check(err)
			const times = 3
			for range times {
				c.handshake(r, r.addresses[gate.PartnersListener])
			}
			gatetest.EventuallyEqual(t, series, times, func() float64 {
				n, err := r.metric(series)
				r.check(err)
				return n
			})
			if after, err := r.sum(`tallygate_tls_handshakes_total\{.*\}`); err != nil || after-before != times {
				t.Errorf("%v handshakes counted, %v, want each of %d once", after-before, err, times)
			}
			if _, n := r.upstream.peek(); n != 0 {
				t.Errorf("%d requests at the upstream, want none", n)
			}
			r.check(r.stop())
			lines := r.lines("handshake failed")
			if c.cause == "closed" {
				for _, line := range lines {
					if line["level"] != "DEBUG" {
						t.Errorf("the log has %v, want level DEBUG", line)
					}
				}
				return
			}
			if len(lines) != 1 {
				t.Fatalf("%d lines for %d handshakes from one address, want 1: %v", len(lines), times, lines)
			}
			line := lines[0]
			if line["level"] != "WARN" || line["cause"] != c.cause || line["listener"] != "partners" || line["advice"] == "" || line["error"] == "" ||
				!strings.HasPrefix(fmt.Sprint(line["remote"]), "127.0.0.1:") || line["count"] != 1.0 || line["partner"] != c.partner {
				t.Errorf("the log has %v", line)
			}
			if names := line["subject_dn"] != nil && line["issuer_dn"] != nil && line["serial"] != nil && line["not_after"] != nil; names != (c.result == "refused") {
				t.Errorf("names of the refused certificate in the log: %t: %v", names, line)
			}
		})
	}
}

// with returns a handshake of the client northwind with an edit of its settings.
func with(edit func(*tls.Config)) func(*reloading, string) {
	return func(r *reloading, address string) {
		settings := r.client("northwind", "http/1.1")
		edit(settings)
		_, _ = knock(address, settings)
	}
}

// say sends text without TLS, and reads until the gate closes the connection. Without a text it closes the
// connection at once.
func say(r *reloading, address, text string) {
	c, err := net.Dial("tcp", address)
	r.check(err)
	defer func() { _ = c.Close() }()
	if text == "" {
		return
	}
	_, err = io.WriteString(c, text)
	r.check(err)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.Copy(io.Discard, c)
}
