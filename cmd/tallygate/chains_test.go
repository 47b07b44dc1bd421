package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// smallCertificate returns a certificate of about 180 bytes. 1,455 of them fit into a handshake.
func smallCertificate(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A stalling connection sends the first left bytes and drops the rest.
type stalling struct {
	net.Conn
	left int
}

func (s *stalling) Write(p []byte) (int, error) {
	now := min(len(p), s.left)
	s.left -= now
	if _, err := s.Conn.Write(p[:now]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// resident returns the memory of a process in MiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		gatetest.SkipOutsideCI(t, err)
	}
	kib, err := strconv.Atoi(string(regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// T-ADD-07: unauthenticated clients with long chains, complete or stalled in the middle, take
// little memory, and other clients connect meanwhile. Before the limit, 300 of them took 486 MiB.
func TestLongChains(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configureBoth()
	r.check(r.start(plainBinary(t), filepath.Join(r.dir, "gate.yaml")))
	small := smallCertificate(t)
	large := testpki.SelfSigned("large", testpki.DNS(strings.Repeat(strings.Repeat("a", 60)+".", 4)+"test", strings.Repeat("b", 4000))).Cert.Raw
	own := testpki.SelfSigned("stranger").TLS()
	chain := func(der []byte, size int) (c tls.Certificate) {
		c = own
		c.Certificate = own.Certificate[:1:1]
		for total := 0; total+len(der)+5 < size; total += len(der) + 5 { // the sizes of the certificates in the message
			c.Certificate = append(c.Certificate, der)
		}
		return c
	}
	good, _ := r.visitor("northwind", "good", true, 0)
	expectVisit(t, good, 200, "")
	for _, listener := range []string{gate.PartnersListener, gate.IssuerListener} {
		for name, c := range map[string]struct {
			certificate tls.Certificate
			sent        int
		}{
			"1,400 certificates, whole":      {chain(small, 255<<10), 1 << 20},
			"256 KiB, whole":                 {chain(large, 255<<10), 1 << 20},
			"256 KiB, stalling":              {chain(large, 255<<10), 200 << 10},
			"64 KiB of small ones, stalling": {chain(small, 60<<10), 62 << 10},
			"90 KiB, stalling":               {chain(large, 250<<10), 90 << 10},
		} {
			if listener == gate.IssuerListener && !strings.HasSuffix(name, "KiB, stalling") {
				continue // both listeners run the same code; these shapes take the most memory
			}
			before := resident(t, r.process.Process.Pid)
			connections := make([]net.Conn, 150)
			var shaking sync.WaitGroup
			for i := range connections {
				conn, err := net.Dial("tcp", r.addresses[listener])
				r.check(err)
				connections[i] = conn
				shaking.Go(func() {
					_ = conn.SetDeadline(time.Now().Add(patience))
					_ = tls.Client(&stalling{conn, c.sent}, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						return &c.certificate, nil
					}}).Handshake()
				})
			}
			shaking.Wait()
			during := resident(t, r.process.Process.Pid)
			r.upstream.forget()
			if v, err := good(); err != nil || v.status != 200 {
				t.Errorf("%s, %s: another client gets %+v, %v", listener, name, v, err)
			}
			t.Logf("%s, %s: %d MiB before, %d MiB during", listener, name, before, during)
			if during > 130 {
				t.Errorf("%s, %s: the gate takes %d MiB, want 130 at most", listener, name, during)
			}
			for _, conn := range connections {
				_ = conn.Close()
			}
		}
	}
	r.check(r.stop())
	warned := 0
	for _, line := range r.lines("handshake failed") {
		if line["level"] != "WARN" { // a connection that its client closes is a line of the level debug
			continue
		}
		warned++
		if line["advice"] == "" || line["remote"] == "" || line["error"] == "" {
			t.Errorf("the log says %v", line)
		}
	}
	if warned == 0 || warned > 40 {
		t.Errorf("%d lines about them", warned)
	}
}
