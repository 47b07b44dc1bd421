package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testacme"
)

// A certified gate has certificates from an ACME server.
type certified struct {
	*reloading
	authority *testacme.Server
	address   string // the address of the partners' listener
	more      string // settings of ACME
}

func newCertified(t *testing.T, options testacme.Options) *certified {
	t.Helper()
	c := &certified{reloading: newReloading(t), address: testacme.FreeAddress()}
	options.TLS = c.address
	if options.Lifetime == 0 {
		options.Lifetime = 24 * time.Hour
	}
	c.authority = testacme.New(t, options)
	t.Cleanup(func() {
		if t.Failed() && c.log != nil {
			t.Logf("the log of the gate:\n%s", c.log.Bytes())
		}
	})
	return c
}

const filesInBase = "address: 127.0.0.1:0\n  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}"

// certify configures ACME for domains, and edits as configure does.
func (c *certified) certify(domains string, edits ...string) {
	c.t.Helper()
	settings := fmt.Sprintf("address: %s\n  certificate: {acme: {domains: [%s], email: ops@example.test, directory: %q, directory_trust: [%q], storage: acme%s}}",
		c.address, domains, c.authority.Directory, c.authority.Trust, c.more)
	c.configure(append([]string{filesInBase, settings}, edits...)...)
}

// shown returns the certificate that a listener sends for domain, or nil.
func (c *certified) shown(listener, domain string) *x509.Certificate {
	c.t.Helper()
	settings := c.client("northwind")
	settings.ServerName, settings.InsecureSkipVerify = domain, true // tests look at it
	conn, err := (&tls.Dialer{Config: settings}).DialContext(c.t.Context(), "tcp", c.addresses[listener])
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

// visit sends a partner's request that trusts the ACME server's root.
func (c *certified) visit(roots *x509.CertPool) {
	c.t.Helper()
	settings := c.client("northwind")
	settings.RootCAs = roots
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r := accountRequest(c.t.Context(), c.address, c.tokens["good"])
	answer, err := transport.RoundTrip(r)
	c.check(err)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		c.t.Errorf("answered with %s", answer.Status)
	}
}

func (c *certified) ready() bool {
	c.t.Helper()
	status, _, err := c.admin("/readyz")
	c.check(err)
	return status == http.StatusOK
}

// notAfter returns the end of validity in the metrics for a listener's certificate.
func (c *certified) notAfter(listener string) int64 {
	n, _ := c.metric(`tallygate_certificate_not_after_timestamp_seconds{name="` + listener + `",role="server"}`)
	return int64(n)
}

// A gate with an empty storage gets its certificate through the listener that ends every handshake
// without a client certificate. The issuer uses the same certificate.
func TestACME(t *testing.T) {
	t.Parallel()
	c := newCertified(t, testacme.Options{})
	c.authority.Start()
	c.certify("api.example.test", "on_failure: respond", "on_failure: handshake",
		"authorization_servers:\n", "authorization_servers:\n  - {name: own, issuer: \"https://as.example.com\", audiences: [https://api.example.test]}\n",
		"admin: {", "issuer: {issuer: \"https://as.example.com\", address: \"127.0.0.1:0\", state: state, audience: https://api.example.test}\nadmin: {")
	c.serve()
	gatetest.Eventually(c.t, "ready", c.ready)
	c.visit(c.authority.Roots())
	if _, n := c.upstream.peek(); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
	first := c.shown(gate.PartnersListener, "api.example.test")
	for _, name := range []string{"as.example.com", "127.0.0.1"} {
		if shown := c.shown(gate.IssuerListener, name); shown == nil || !shown.Equal(first) {
			t.Errorf("the issuer shows %v for %s", shown, name)
		}
	}
	gatetest.Eventually(c.t, "the metrics", func() bool {
		return c.notAfter(gate.PartnersListener) == first.NotAfter.Unix() && c.notAfter(gate.IssuerListener) == first.NotAfter.Unix()
	})
	if n, err := c.metric(`tallygate_acme_attempts_total{domain="api.example.test",result="ok"}`); err != nil || n != 1 {
		t.Errorf("%v attempts succeeded, %v", n, err)
	}
	settings := c.client("")
	settings.RootCAs = c.authority.Roots()
	conn, err := (&tls.Dialer{Config: settings}).DialContext(t.Context(), "tcp", c.address)
	if err == nil { // in TLS 1.3 the alert comes after the handshake
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: certificate required") {
		t.Errorf("without a client certificate: %v", err)
	}
	c.check(c.stop())
	for line := range bytes.Lines(c.log.Bytes()) {
		if !json.Valid(line) {
			t.Errorf("the log holds %q", line)
		}
	}
}

// While the ACME server is down, the gate starts, reports the missing certificate, and gets it
// later by itself. At the next start it uses the stored certificate.
func TestACMEWithoutAuthority(t *testing.T) {
	t.Parallel()
	c := newCertified(t, testacme.Options{})
	c.certify("api.example.test")
	c.serve()
	status, text, err := c.admin("/readyz")
	if err != nil || status != http.StatusServiceUnavailable || !strings.HasPrefix(string(text), "no certificate for api.example.test has been obtained yet\n") {
		t.Errorf("%d %s, %v", status, text, err)
	}
	if shown := c.shown(gate.PartnersListener, "api.example.test"); shown != nil {
		t.Errorf("%s is shown", shown.Subject)
	}
	const complaint = "certificate not obtained, trying again"
	gatetest.Eventually(c.t, "a complaint", func() bool { return len(c.lines(complaint)) > 1 })
	if line := c.lines(complaint)[0]; line["level"] != "ERROR" || line["domain"] != "api.example.test" || line["shown"] != "nothing" || !strings.Contains(fmt.Sprint(line["error"]), "connection refused") {
		t.Errorf("the log says %v", line)
	}
	if n, err := c.metric(`tallygate_acme_attempts_total{domain="api.example.test",result="failed"}`); err != nil || n < 1 {
		t.Errorf("%v attempts failed, %v", n, err)
	}
	c.authority.Start()
	gatetest.Eventually(c.t, "ready", c.ready)
	roots, first := c.authority.Roots(), c.shown(gate.PartnersListener, "api.example.test")
	c.visit(roots)
	if got := c.notAfter(gate.PartnersListener); got != first.NotAfter.Unix() {
		t.Errorf("the metrics say %d, the certificate %d", got, first.NotAfter.Unix())
	}
	c.check(c.stop())
	for path, mode := range map[string]os.FileMode{"acme": 0o700, "acme/certificates": 0o700} {
		if about, err := os.Stat(filepath.Join(c.dir, path)); err != nil || about.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, about.Mode(), err)
		}
	}

	c.authority.Stop()
	c.serve()
	gatetest.Eventually(c.t, "ready", c.ready)
	c.visit(roots)
	if again := c.shown(gate.PartnersListener, "api.example.test"); !again.Equal(first) {
		t.Error("another certificate is shown")
	}
	c.check(c.stop())
}

// An ACME server that accepts connections and never answers does not delay a stop.
func TestACMEStopsWhileAsking(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	asked := make(chan struct{})
	go func() {
		if conn, err := silent.Accept(); err == nil {
			close(asked)
			_, _ = io.Copy(io.Discard, conn) // until the gate ends
			_ = conn.Close()
		}
	}()
	c := newCertified(t, testacme.Options{})
	c.authority.Directory = "https://" + silent.Addr().String() + "/dir"
	c.certify("api.example.test")
	c.serve()
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("nothing is asked")
	}
	c.check(c.stop())
}

// A certificate that is due for renewal is used until the next is there. Meanwhile any client may
// see the challenge's certificate and nothing else: no request is read on such a connection, and a
// handshake that offers the challenge among other protocols is a normal handshake.
func TestChallengeOpensNothing(t *testing.T) {
	t.Parallel()
	for _, onFailure := range []string{"respond", "handshake"} {
		t.Run(onFailure, func(t *testing.T) {
			// A certificate is renewed without delay in its last 50 minutes, and this certificate lasts 40.
			c := newCertified(t, testacme.Options{Lifetime: 40 * time.Minute, Sleep: 4})
			c.authority.Start()
			c.certify("api.example.test", "on_failure: respond", "on_failure: "+onFailure)
			c.serve()
			gatetest.Eventually(c.t, "ready", c.ready)
			first := c.shown(gate.PartnersListener, "api.example.test")
			c.check(c.stop())
			c.serve()
			gatetest.Eventually(c.t, "the stored one", func() bool { return c.shown(gate.PartnersListener, "api.example.test") != nil })
			c.upstream.forget()

			request := "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer " + c.tokens["good"] + "\r\n\r\n"
			gatetest.Eventually(c.t, "a challenge", func() bool { return c.challenged(request) })
			for _, preface := range []string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\r\n", ""} {
				c.challenged(preface + request)
			}
			for _, protocols := range [][]string{{"acme-tls/1", "h2"}, {"h2", "acme-tls/1"}, {"http/1.1", "acme-tls/1"}, {"acme-tls/1", "http/1.1"}} {
				c.uncertified(protocols, onFailure)
			}
			if c.challenged(request, "acme-tls/1", "acme-tls/1") {
				t.Error("the protocol counts also when it is offered twice")
			}
			if received, n := c.upstream.peek(); n > 0 {
				t.Errorf("%d requests reached the upstream:\n%s", n, received)
			}
			gatetest.Eventually(c.t, "the next", func() bool {
				shown := c.shown(gate.PartnersListener, "api.example.test")
				if shown == nil {
					t.Fatal("there was a moment without a certificate")
				}
				return !shown.Equal(first)
			})
			gatetest.Eventually(c.t, "the metrics", func() bool {
				return c.notAfter(gate.PartnersListener) == c.shown(gate.PartnersListener, "api.example.test").NotAfter.Unix()
			})
			if c.challenged(request) {
				t.Error("a challenge is answered that is over")
			}
			if n, err := c.metric(`tallygate_tls_handshakes_total{reason="none",result="challenge",version="TLS 1.3"}`); err != nil || n < 2 {
				t.Errorf("%v handshakes were challenges, %v", n, err)
			}
			c.visit(c.authority.Roots())
			c.check(c.stop())
		})
	}
}

// challenged reports whether a challenge handshake without a client certificate succeeds. Such a
// connection must not answer any request.
func (c *certified) challenged(request string, protocols ...string) bool {
	c.t.Helper()
	if protocols == nil {
		protocols = []string{"acme-tls/1"}
	}
	settings := c.client("", protocols...)
	sessions := tls.NewLRUClientSessionCache(1)
	settings.InsecureSkipVerify, settings.ClientSessionCache = true, sessions
	conn, err := (&tls.Dialer{Config: settings}).DialContext(c.t.Context(), "tcp", c.address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	c.check(conn.SetDeadline(time.Now().Add(patience)))
	state := conn.(*tls.Conn).ConnectionState()
	identifier := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31} // RFC 8737 section 3
	leaf := state.PeerCertificates[0]
	proves := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(identifier) })
	if state.NegotiatedProtocol != "acme-tls/1" || !proves {
		c.t.Errorf("%q is spoken, and %s shown", state.NegotiatedProtocol, leaf.Subject)
	}
	_, _ = io.WriteString(conn, request)
	if received, err := io.ReadAll(conn); len(received) > 0 || os.IsTimeout(err) {
		c.t.Errorf("the connection stays open, or there is an answer: %q, %v", received, err)
	}
	if _, kept := sessions.Get(settings.ServerName); kept {
		c.t.Error("the session may be resumed")
	}
	return true
}

// uncertified checks that a client without a certificate is refused, even if it offers the protocol
// of challenges beside others.
func (c *certified) uncertified(protocols []string, onFailure string) {
	c.t.Helper()
	settings := c.client("", protocols...)
	settings.InsecureSkipVerify = true
	settings.VerifyConnection = func(state tls.ConnectionState) error {
		if spoken := state.NegotiatedProtocol; spoken != "h2" && spoken != "http/1.1" {
			c.t.Errorf("%v: %q is spoken", protocols, spoken)
		}
		return nil
	}
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: slices.Contains(protocols, "h2")}
	defer transport.CloseIdleConnections()
	r := accountRequest(c.t.Context(), c.address, c.tokens["good"])
	answer, err := transport.RoundTrip(r)
	if onFailure == "handshake" {
		if err == nil { // the alert, or the error at the end of the connection
			c.t.Errorf("%v: %s", protocols, answer.Status)
			_ = answer.Body.Close()
		}
		return
	}
	c.check(err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusUnauthorized || !bytes.Contains(body, []byte("no_certificate")) {
		c.t.Errorf("%v: %s %s, %v", protocols, answer.Status, body, err)
	}
}

// With HTTP-01, a separate listener answers challenges and nothing else. The partners' listener
// answers no challenge.
func TestACMEByHTTP(t *testing.T) {
	t.Parallel()
	plain := testacme.FreeAddress()
	c := newCertified(t, testacme.Options{HTTP: plain, Sleep: 3})
	c.more = fmt.Sprintf(", http_address: %q", plain)
	c.authority.Start()
	c.certify("api.example.test", "on_failure: respond", "on_failure: handshake")
	c.serve()
	ask := func(method, host, path string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+plain+path, nil)
		c.check(err)
		r.Host = host
		answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		c.check(err)
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusNotFound || string(body) != "404 page not found\n" || err != nil {
			t.Errorf("%s %s %s: %s %q, %v", method, host, path, answer.Status, body, err)
		}
	}
	for !c.ready() { // as long as a challenge is under way
		for _, path := range []string{"/", "/accounts/7", "/metrics", "/livez", "/.well-known/acme-challenge", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x", "/.well-known/acme-challenge/../../accounts/7"} {
			ask(http.MethodGet, "api.example.test", path)
		}
		ask(http.MethodPost, "api.example.test", "/.well-known/acme-challenge/x")
		ask(http.MethodGet, "other.example.test", "/.well-known/acme-challenge/x")
		if c.challenged("") {
			t.Error("the partners' listener takes a challenge")
		}
	}
	c.visit(c.authority.Roots())
	if n := len(c.lines("served key authentication")); n == 0 {
		t.Error("no challenge was answered")
	}
	c.check(c.stop())
}

// Domains may change while the gate runs. The account may not.
func TestACMEReload(t *testing.T) {
	t.Parallel()
	c := newCertified(t, testacme.Options{})
	c.authority.Start()
	c.certify("api.example.test")
	c.serve()
	gatetest.Eventually(c.t, "ready", c.ready)
	first := c.shown(gate.PartnersListener, "api.example.test")
	if other := c.shown(gate.PartnersListener, "more.example.test"); !other.Equal(first) {
		t.Errorf("%v is shown for a name that is none of the domains", other.DNSNames)
	}
	c.certify("api.example.test, more.example.test")
	c.await("ok", 1)
	if !c.ready() {
		t.Error("one more domain takes the others off")
	}
	gatetest.Eventually(c.t, "one more", func() bool {
		shown := c.shown(gate.PartnersListener, "more.example.test")
		return shown != nil && slices.Equal(shown.DNSNames, []string{"more.example.test"})
	})
	if !c.shown(gate.PartnersListener, "api.example.test").Equal(first) {
		t.Error("the first is another")
	}
	c.certify("more.example.test")
	c.await("ok", 2)
	for _, name := range []string{"more.example.test", "api.example.test", "127.0.0.1"} {
		if shown := c.shown(gate.PartnersListener, name); shown == nil || !slices.Equal(shown.DNSNames, []string{"more.example.test"}) {
			t.Errorf("%s: %v is shown", name, shown)
		}
	}
	gatetest.Eventually(c.t, "the series of a domain that is gone", func() bool {
		_, err := c.metric(`tallygate_acme_attempts_total{domain="api.example.test",result="ok"}`)
		return err != nil
	})
	c.certify("more.example.test", "ops@example.test", "dev@example.test")
	c.await("failed", 1)
	if !bytes.Contains(c.log.Bytes(), []byte("listener.certificate.acme.email: cannot change while the gate runs")) {
		t.Errorf("the log says\n%s", c.log.Bytes())
	}
	c.check(c.stop())
}

// The directory's trust anchors may change while the gate runs. A directory that then refuses is
// not called again at once.
func TestACMEDirectoryTrust(t *testing.T) {
	t.Parallel()
	c := newCertified(t, testacme.Options{})
	c.address = testacme.FreeAddress() // and so the domain cannot be proved
	c.authority.Start()
	trust, err := os.ReadFile(c.authority.Trust)
	c.check(err)
	c.authority.Trust = filepath.Join(c.dir, "directory.pem")
	c.replace("directory.pem", c.pairs["northwind-ca"].CertPEM())
	c.certify("api.example.test")
	c.serve()
	complains := func(of, wait string) func() bool {
		return func() bool {
			return slices.ContainsFunc(c.lines("certificate not obtained, trying again"), func(line map[string]any) bool {
				return strings.Contains(fmt.Sprint(line["error"]), of) && line["wait"] == wait
			})
		}
	}
	gatetest.Eventually(c.t, "a complaint", complains("certificate signed by unknown authority", "2s"))
	c.replace("directory.pem", trust)
	c.await("ok", 1)
	gatetest.Eventually(c.t, "a refusal", complains("urn:ietf:params:acme:error:", "1m0s"))
	c.check(c.stop())
}

// Check contacts no server and creates nothing. A start fails if the storage is unusable.
func TestACMEStorage(t *testing.T) {
	t.Parallel()
	c := newCertified(t, testacme.Options{}) // not started
	c.certify("api.example.test")
	run := func(command string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, binary(t), command, "--config", filepath.Join(c.dir, "gate.yaml")).CombinedOutput()
		return string(out), err
	}
	if out, err := run("check"); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	folder := filepath.Join(c.dir, "acme")
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("check has made the storage: %v", err)
	}
	for want, make := range map[string]func() error{
		"others may write to the folder (-rwxrwxrwx)": func() error { return os.Chmod(folder, 0o777) },
		"is not a folder": func() error { return os.WriteFile(folder, nil, 0o600) },
		"api.example.test.key\": others may read the key (-rw-r--r--)": func() error {
			return os.WriteFile(filepath.Join(folder, "api.example.test.key"), nil, 0o644)
		},
	} {
		c.check(os.RemoveAll(folder))
		if strings.Contains(want, "others") {
			c.check(os.Mkdir(folder, 0o700))
		}
		c.check(make())
		if out, err := run("serve"); err == nil || !strings.Contains(out, "opening listener.certificate.acme.storage") || !strings.Contains(out, want) {
			t.Errorf("serve: %v\n%s", err, out)
		}
	}
	c.check(os.Remove(c.authority.Trust))
	if out, err := run("check"); err == nil || !strings.Contains(out, "directory_trust[0]: open "+c.authority.Trust) {
		t.Errorf("check: %v, want an error about the missing directory_trust\n%s", err, out)
	}
}
