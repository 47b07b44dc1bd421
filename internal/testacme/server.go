// Package testacme runs Pebble, the ACME test server of Let's Encrypt. Only tests import it.
package testacme

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A Server is an ACME server that can be started and stopped. It resolves every name to
// 127.0.0.1.
type Server struct {
	Directory string // URL of the ACME directory
	Trust     string // PEM file with the CA of the directory's certificate

	t          testing.TB
	command    []string
	sleep      int
	management string
	web        *http.Client
	process    *exec.Cmd
	exited     chan error
}

// Options configure a Server.
type Options struct {
	TLS, HTTP string        // addresses whose ports Pebble connects to for validation; "": a port without a listener
	Lifetime  time.Duration // lifetime of issued certificates
	Sleep     int           // upper bound of the random delay of a validation, in seconds; 0: no delay
}

// startTimeout bounds the wait until Pebble responds.
const startTimeout = 20 * time.Second

// New returns a server that is not started. If Pebble is not installed, the test is skipped, or fails
// in CI. "make pebble" installs Pebble.
func New(t testing.TB, options Options) *Server {
	t.Helper()
	program := findPebble(t)
	dir, address := t.TempDir(), FreeAddress()
	file := filepath.Join(dir, "pebble.json")
	own := testpki.SelfSigned("pebble", testpki.IP("127.0.0.1"))
	trust, key := own.Write(dir, "pebble")
	s := &Server{
		t: t, Directory: "https://" + address + "/dir", Trust: trust, management: FreeAddress(), sleep: options.Sleep,
		command: []string{program, "-config", file, "-dnsserver", serveDNS(t)},
	}
	roots := x509.NewCertPool()
	roots.AddCert(own.Cert)
	s.web = &http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	type object = map[string]any
	settings := object{
		"listenAddress": address, "managementListenAddress": s.management, "certificate": trust, "privateKey": key,
		"httpPort": portOf(options.HTTP), "tlsPort": portOf(options.TLS), "keyAlgorithm": "ecdsa",
		"retryAfter": object{"authz": 1, "order": 1},
		"profiles":   object{"default": object{"description": "for tests", "validityPeriod": int(options.Lifetime.Seconds())}},
	}
	text, err := json.Marshal(object{"pebble": settings})
	check(err)
	check(os.WriteFile(file, text, 0o600))
	t.Cleanup(s.Stop)
	return s
}

// findPebble returns the path of Pebble.
func findPebble(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{"../.tools/pebble-*", "../../.tools/pebble-*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			program, err := filepath.Abs(found[0])
			check(err)
			return program
		}
	}
	gatetest.SkipOutsideCI(t, "pebble is missing; make pebble installs it")
	return ""
}

// portOf returns the port of address. If address is "", it returns the port of a free address.
func portOf(address string) int {
	if address == "" {
		address = FreeAddress()
	}
	a, err := net.ResolveTCPAddr("tcp", address)
	check(err)
	return a.Port
}

// FreeAddress returns a loopback address on which no process listens at the moment.
func FreeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer func() { check(l.Close()) }()
	return l.Addr().String()
}

// Start starts the server and waits until it responds.
func (s *Server) Start() {
	s.t.Helper()
	s.process = exec.Command(s.command[0], s.command[1:]...)
	// By default, Pebble rejects nonces and reuses validations at random.
	s.process.Env = append(os.Environ(), "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0", fmt.Sprintf("PEBBLE_VA_SLEEPTIME=%d", s.sleep))
	if s.sleep == 0 {
		s.process.Env = append(s.process.Env, "PEBBLE_VA_NOSLEEP=1")
	}
	check(s.process.Start())
	s.exited = make(chan error, 1)
	process, exited := s.process, s.exited
	go func() { exited <- process.Wait() }()
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
		_, err := s.get(s.Directory)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("pebble does not start: %v", err)
		}
	}
}

// Stop kills the server. Pebble keeps accounts and certificates in memory only.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.exited
	s.process = nil
}

// Roots returns the root certificates that the server has generated at its last start.
func (s *Server) Roots() *x509.CertPool {
	s.t.Helper()
	text, err := s.get("https://" + s.management + "/roots/0")
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		s.t.Fatalf("no root in %q", text)
	}
	return roots
}

func (s *Server) get(url string) ([]byte, error) {
	response, err := s.web.Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	return io.ReadAll(response.Body)
}

// serveDNS runs a DNS server over TCP until the test ends. It resolves every name to 127.0.0.1
// and has no other records.
func serveDNS(t testing.TB) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(startTimeout))
				for err := error(nil); err == nil; {
					err = answerDNS(conn)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

// answerDNS answers one query. Each message is preceded by its length, RFC 1035 section 4.2.2.
func answerDNS(conn net.Conn) error {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, text); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(text); err != nil {
		return err
	}
	m.Response, m.Additionals = true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	text, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...))
	return err
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
