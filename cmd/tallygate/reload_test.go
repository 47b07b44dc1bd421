package main

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A reloading gate has files that a test changes while the gate runs.
type reloading struct {
	*testGate
	t *testing.T
}

func newReloading(t *testing.T) *reloading {
	t.Helper()
	notShort(t)
	r := &reloading{newTestGate(t.TempDir()), t}
	t.Cleanup(r.close)
	for name, certificate := range map[string]string{"good": "northwind", "sync": "borealis"} {
		r.check(r.mint([]string{name, certificate, map[string]string{"good": "northwind-ledger", "sync": "borealis-sync"}[name]}))
	}
	return r
}

func (r *reloading) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// configure writes the configuration of the scripts. In edits, each old part is followed by its
// replacement.
func (r *reloading) configure(edits ...string) {
	r.t.Helper()
	text, err := os.ReadFile("testdata/base.yaml")
	r.check(err)
	content := r.expand(string(text))
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(content, edits[i]) {
			r.t.Fatalf("the configuration does not hold %q", edits[i])
		}
		content = strings.Replace(content, edits[i], edits[i+1], 1)
	}
	r.replace("gate.yaml", []byte(content))
}

// expand fills in the variables of the scripts' configuration.
func (r *reloading) expand(text string) string {
	return os.Expand(text, func(name string) string {
		if name == "UPSTREAM" {
			return r.upstream.url()
		}
		return baseVariables[name]
	})
}

// replace replaces a file by renaming a new one over it.
func (r *reloading) replace(name string, content []byte) {
	r.t.Helper()
	next := filepath.Join(r.dir, "next")
	r.check(os.WriteFile(next, content, 0o600))
	r.check(os.Rename(next, filepath.Join(r.dir, name)))
}

func (r *reloading) serve() {
	r.t.Helper()
	r.check(r.start(binary(r.t), filepath.Join(r.dir, "gate.yaml")))
}

func (r *reloading) await(result string, n int) {
	r.t.Helper()
	r.check(r.reloaded(result, n))
}

// A visit is the result of a request.
type visit struct {
	status  int
	body    string
	closing bool // the gate closes the connection after it
	server  string
	resumed bool
}

// expectVisit expects that the request which send sends is answered with status and a body that contains
// text.
func expectVisit(t testing.TB, send func() (visit, error), status int, text string) {
	t.Helper()
	if v, err := send(); err != nil || v.status != status || !strings.Contains(v.body, text) {
		t.Errorf("the request got %+v, %v, want %d with %q", v, err, status, text)
	}
}

// visitor returns a function that sends requests with a certificate, over as few connections as
// possible.
func (r *reloading) visitor(certificate, token string, h2 bool, maximum uint16) (func() (visit, error), *http.Transport) {
	settings := r.client(certificate)
	settings.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	settings.MaxVersion = maximum
	settings.InsecureSkipVerify = true // the gate's certificate is what changes; tests look at it
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: h2}
	r.t.Cleanup(transport.CloseIdleConnections)
	return func() (visit, error) {
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		defer cancel()
		request := accountRequest(ctx, r.addresses["partners"], r.tokens[token])
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return visit{}, err
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		return visit{
			status: answer.StatusCode, body: string(body), closing: answer.Close,
			server: answer.TLS.PeerCertificates[0].Subject.CommonName, resumed: answer.TLS.DidResume,
		}, err
	}, transport
}

// T-TLS-01, 06, 07: when an authority is no longer trusted, requests on connections with its
// certificates are refused, and their session tickets are useless. Other connections stay open.
func TestReloadTakesTrustAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		h2      bool
		maximum uint16
	}{"HTTP/1.1, TLS 1.2": {false, tls.VersionTLS12}, "HTTP/1.1, TLS 1.3": {false, tls.VersionTLS13}, "HTTP/2": {true, tls.VersionTLS13}} {
		t.Run(name, func(t *testing.T) {
			r := newReloading(t)
			testpki.NewCA("Another Root").Write(r.dir, "another")
			r.configure()
			r.serve()
			doomed, doomedConnections := r.visitor("borealis", "sync", c.h2, c.maximum)
			other, otherConnections := r.visitor("northwind", "good", c.h2, c.maximum)
			expect := func(who func() (visit, error), status int, resumed bool, reason string) visit {
				t.Helper()
				v, err := who()
				if err != nil || v.status != status || v.resumed != resumed || !strings.Contains(v.body, reason) {
					t.Fatalf("%+v, %v; want %d, resumed %t", v, err, status, resumed)
				}
				return v
			}
			for _, who := range []struct {
				visit       func() (visit, error)
				connections *http.Transport
			}{{doomed, doomedConnections}, {other, otherConnections}} {
				expect(who.visit, 200, false, "")
				who.connections.CloseIdleConnections()
				expect(who.visit, 200, true, "") // and so there is a ticket
			}
			r.upstream.forget()

			changed := time.Now()
			r.configure("trust: [borealis-ca.pem]", "trust: [another.pem]")
			var v visit
			gatetest.Eventually(t, "the certificate is refused after the reload", func() (refused bool) {
				var err error
				if v, err = doomed(); err != nil || v.status != 200 && v.status != 401 {
					t.Fatalf("the request got %+v, %v, want 200 or 401", v, err)
				}
				return v.status == 401
			})
			t.Logf("refused %s after the file changed", time.Since(changed).Round(time.Millisecond))
			if !v.resumed || !strings.Contains(v.body, "untrusted_certificate") || v.closing == c.h2 {
				t.Errorf("the refusal is %+v, want untrusted_certificate on the old connection, which ends", v)
			}
			r.upstream.forget()
			// Each refusal ends its connection, so each request has a connection of its own. The first
			// connection resumes with no earlier ticket. The second resumes with a new ticket, and its
			// request is still refused.
			expect(doomed, 401, false, "untrusted_certificate")
			expect(doomed, 401, true, "untrusted_certificate")
			if received, n := r.upstream.peek(); n > 0 {
				t.Errorf("%d requests reached the upstream:\n%s", n, received)
			}
			expect(other, 200, true, "") // on its open connection
			otherConnections.CloseIdleConnections()
			expect(other, 200, false, "") // no earlier ticket is accepted
			otherConnections.CloseIdleConnections()
			expect(other, 200, true, "") // a new ticket is accepted
			r.check(r.stop())
		})
	}
}

// T-CFG-02: while certificate and key do not match, the previous pair is used. An open connection
// survives the change of the pair.
func TestReloadOfAPair(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	shown := func() string { // by a whole handshake
		t.Helper()
		visit, _ := r.visitor("northwind", "good", false, 0)
		v, err := visit()
		if err != nil || v.status != 200 {
			t.Fatalf("the request got %+v, %v, want 200", v, err)
		}
		return v.server
	}
	if got := shown(); got != "gate" {
		t.Errorf("%s is shown", got)
	}
	open, _ := r.visitor("northwind", "good", true, 0)
	if _, err := open(); err != nil {
		t.Fatal(err)
	}
	next := testpki.SelfSigned("renewed", testpki.DNS("api.example.test"))
	r.replace("gate.pem", next.CertPEM())
	r.await("failed", 1)
	if got := shown(); got != "gate" {
		t.Errorf("%s is shown, with another's key", got)
	}
	key := next.KeyPEM()
	r.check(os.WriteFile(filepath.Join(r.dir, "gate-key.pem"), key[:len(key)/2], 0o600)) // T-CFG-02 once more
	r.await("failed", 2)
	r.replace("gate-key.pem", key)
	r.await("ok", 1)
	if got := shown(); got != "renewed" {
		t.Errorf("%s is shown", got)
	}
	if v, err := open(); err != nil || v.status != 200 || v.server != "gate" {
		t.Errorf("%+v, %v; want the connection that was open", v, err)
	}
	r.check(r.stop())
}

// A Kubernetes volume is swapped by renaming a link, any number of times. Changes without a
// notification, as in links to links, are found by polling.
func TestReloadOfAVolume(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	volume := filepath.Join(r.dir, "volume")
	r.check(os.Mkdir(volume, 0o700))
	swap := func(generation string, pair *testpki.Pair) {
		t.Helper()
		r.check(os.Mkdir(filepath.Join(volume, ".."+generation), 0o700))
		pair.Write(filepath.Join(volume, ".."+generation), "tls")
		before, _ := os.Readlink(filepath.Join(volume, "..data"))
		r.check(os.Symlink(".."+generation, filepath.Join(volume, "..data_tmp")))
		r.check(os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")))
		if before != "" {
			r.check(os.RemoveAll(filepath.Join(volume, before)))
		}
	}
	pair := func(name string) *testpki.Pair { return testpki.SelfSigned(name, testpki.DNS("api.example.test")) }
	swap("1", pair("first"))
	for _, name := range []string{"tls.pem", "tls-key.pem"} {
		r.check(os.Symlink("..data/"+name, filepath.Join(volume, name)))
	}
	// gate.yaml names the link a/far, which is one to b/mid, which is one to c1/keys.json.
	for _, folder := range []string{"a", "b", "c1", "c2"} {
		r.check(os.Mkdir(filepath.Join(r.dir, folder), 0o700))
	}
	r.check(os.WriteFile(filepath.Join(r.dir, "c1/keys.json"), testpki.KeySet(r.signers["good"]), 0o600))
	r.check(os.WriteFile(filepath.Join(r.dir, "c2/keys.json"), testpki.KeySet(r.signers["other"]), 0o600))
	r.check(os.Symlink("../b/mid", filepath.Join(r.dir, "a/far")))
	r.check(os.Symlink("../c1/keys.json", filepath.Join(r.dir, "b/mid")))
	r.configure("{certificate: gate.pem, key: gate-key.pem}", "{certificate: volume/tls.pem, key: volume/tls-key.pem}", "{file: keys.json}", "{file: a/far}")
	r.serve()
	for i, name := range []string{"second", "third", "fourth"} {
		swapped := time.Now()
		swap(name, pair(name))
		r.await("ok", i+1)
		t.Logf("%s: taken after %s", name, time.Since(swapped).Round(time.Millisecond))
		if took := time.Since(swapped); took > gate.PollInterval/2 {
			t.Errorf("the watch is dead: it took %s", took)
		}
		visit, _ := r.visitor("northwind", "good", false, 0)
		if v, err := visit(); err != nil || v.status != 200 || v.server != name {
			t.Errorf("%+v, %v; want %s", v, err, name)
		}
	}
	time.Sleep(4 * gate.Debounce) // nothing that is watched moves any more
	r.check(os.Symlink("../c2/keys.json", filepath.Join(r.dir, "b/next")))
	r.check(os.Rename(filepath.Join(r.dir, "b/next"), filepath.Join(r.dir, "b/mid")))
	r.await("ok", 4)
	visit, _ := r.visitor("northwind", "good", false, 0)
	expectVisit(t, visit, 401, "bad_signature")
	r.check(r.stop())
}

// T-TLS-05: session tickets are valid at one listener only: a ticket of the partners' listener
// resumes no session at the issuer's, although both use the same certificate.
func TestTicketsOfListeners(t *testing.T) {
	t.Parallel()
	s := newStateful(t)
	s.check(s.start(binary(t), filepath.Join(s.dir, "gate.yaml")))
	settings := s.client("northwind", "http/1.1")
	settings.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	dial := func(listener string) bool {
		t.Helper()
		conn, err := (&tls.Dialer{Config: settings}).DialContext(t.Context(), "tcp", s.addresses[listener])
		s.check(err)
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		s.check(err)
		_, err = io.Copy(io.Discard, conn) // and the ticket
		s.check(err)
		return conn.(*tls.Conn).ConnectionState().DidResume
	}
	if dial(gate.PartnersListener) || !dial(gate.PartnersListener) {
		t.Error("the partners' listener resumes its sessions wrongly")
	}
	if dial(gate.IssuerListener) || !dial(gate.IssuerListener) {
		t.Error("the issuer's listener took a ticket of the partners'")
	}
	s.check(s.stop())
}
