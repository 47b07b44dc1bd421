// Package testacme runs Pebble, the test server of Let's Encrypt, for tests of what
// obtains certificates. Only tests import it.
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

	"github.com/tallygate/tallygate/internal/testpki"
)

// A Server is an ACME server that may start and stop. It resolves every name to 127.0.0.1.
type Server struct {
	Directory string // its URL
	Trust     string // PEM file that speaks for the directory

	t          testing.TB
	command    []string
	sleep      int
	management string
	web        *http.Client
	process    *exec.Cmd
	exited     chan error
}

// Options say how a server behaves.
type Options struct {
	TLS, HTTP string        // the addresses at whose ports it validates; where nothing is, by default
	Lifetime  time.Duration // of what it issues
	Sleep     int           // it validates after less than so many seconds; 0: at once
}

// patience bounds the wait for a start.
const patience = 20 * time.Second

// New returns a server that is not started yet. The test is skipped where Pebble is
// missing, and fails there in CI; "make pebble" installs it.
func New(t testing.TB, options Options) *Server {
	t.Helper()
	program := find(t)
	dir, address := t.TempDir(), FreeAddress()
	file := filepath.Join(dir, "pebble.json")
	own := testpki.SelfSigned("pebble", testpki.IP("127.0.0.1"))
	trust, key := own.Write(dir, "pebble")
	s := &Server{
		t: t, Directory: "https://" + address + "/dir", Trust: trust, management: FreeAddress(), sleep: options.Sleep,
		command: []string{program, "-config", file, "-dnsserver", resolve(t)},
	}
	roots := x509.NewCertPool()
	roots.AddCert(own.Cert)
	s.web = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	type object = map[string]any
	settings := object{
		"listenAddress": address, "managementListenAddress": s.management, "certificate": trust, "privateKey": key,
		"httpPort": port(options.HTTP), "tlsPort": port(options.TLS), "keyAlgorithm": "ecdsa",
		"retryAfter": object{"authz": 1, "order": 1},
		"profiles":   object{"default": object{"description": "for tests", "validityPeriod": int(options.Lifetime.Seconds())}},
	}
	text, err := json.Marshal(object{"pebble": settings})
	check(err)
	check(os.WriteFile(file, text, 0o600))
	t.Cleanup(s.Stop)
	return s
}

// find returns the path of Pebble.
func find(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{"../.tools/pebble-*", "../../.tools/pebble-*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			program, err := filepath.Abs(found[0])
			check(err)
			return program
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("pebble is missing")
	}
	t.Skip("pebble is missing: make pebble installs it")
	return ""
}

// port returns the number in address, or that of a port where nothing is.
func port(address string) int {
	if address == "" {
		address = FreeAddress()
	}
	a, err := net.ResolveTCPAddr("tcp", address)
	check(err)
	return a.Port
}

// FreeAddress returns an address on which nobody listens at the moment.
func FreeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer func() { check(l.Close()) }()
	return l.Addr().String()
}

// Start starts the server and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.process = exec.Command(s.command[0], s.command[1:]...)
	// Nonces that it rejects, and validations that it remembers, are left to chance otherwise.
	s.process.Env = append(os.Environ(), "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0", fmt.Sprintf("PEBBLE_VA_SLEEPTIME=%d", s.sleep))
	if s.sleep == 0 {
		s.process.Env = append(s.process.Env, "PEBBLE_VA_NOSLEEP=1")
	}
	check(s.process.Start())
	s.exited = make(chan error, 1)
	process, exited := s.process, s.exited
	go func() { exited <- process.Wait() }()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, err := s.get(s.Directory)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("pebble does not start: %v", err)
		}
	}
}

// Stop ends the server. What it has issued and whom it knows is forgotten.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.exited
	s.process = nil
}

// Roots returns what vouches for the certificates of this run.
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
	answer, err := s.web.Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// resolve answers every question for an IPv4 address with 127.0.0.1, and every other with
// nothing, until the test ends. Pebble asks over TCP.
func resolve(t testing.TB) (address string) {
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
				_ = conn.SetDeadline(time.Now().Add(patience))
				for err := error(nil); err == nil; {
					err = answer(conn)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

// answer answers one question, RFC 1035 section 4.2.2: each message follows its length.
func answer(conn net.Conn) error {
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
