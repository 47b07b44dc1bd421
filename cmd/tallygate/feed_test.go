package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gatetest"
)

const feedIssuerConfig = `
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: gate.pem, key: gate-key.pem}}}
authorization_servers:
  - {name: ours, issuer: "https://ISSUER", audiences: [https://api.example.test]}
apis:
  - {name: accounts, hosts: [api.example.test], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: "/accounts/{id}"}]}
issuer:
  issuer: https://ISSUER
  address: ISSUER
  state: state
  audience: https://api.example.test
  resource_servers:
    - {client_id: orders-gate, trust: [northwind-ca.pem], certificate: {san_dns: printer.northwind.example}, resources: [https://api.example.test], revocations: true}
admin: {address: "127.0.0.1:0"}
drain: {delay: 0s, timeout: 1s}
`

const feedGateConfig = `
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: gate.pem, key: gate-key.pem}}}
authorization_servers:
  - name: ours
    issuer: https://ISSUER
    audiences: [https://api.example.test]
    connection: {trust: [gate.pem], certificate: {certificate: unnamed.pem, key: unnamed-key.pem}}
apis:
  - {name: accounts, hosts: [api.example.test], upstream: {url: "UPSTREAM"}, routes: [{methods: [GET], path: "/accounts/{id}"}]}
revocations: {server: ours, feeds: ["https://RELAY/revocations"], client_id: orders-gate, state: feed, max_staleness: 5s, when_stale: refuse}
admin: {address: "127.0.0.1:0"}
log: {granted: all}
drain: {delay: 0s, timeout: 1s}
`

const feedPartners = `
partners:
  list:
    - {name: northwind, trust: [northwind-ca.pem], applications: [{client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts]}]}
    - {name: borealis, trust: [borealis-ca.pem], applications: [{client_id: borealis-sync, certificate: {subject_dn: "CN=sync"}, apis: [accounts]}]}
`

// An issuerAndGate is an issuer in one process and a gate in another process, which follows the issuer's feed
// over a relay.
type issuerAndGate struct {
	*reloading
	gate  *reloading // in the same folder
	relay *feedRelay
}

func newFeeding(t *testing.T) *issuerAndGate {
	t.Helper()
	a := newReloading(t)
	copied := *a.testGate
	copied.process, copied.upstream = nil, newRecorder()
	f := &issuerAndGate{a, &reloading{&copied, t}, newFeedRelay(t, a.issuerAddress)}
	t.Cleanup(f.gate.close)
	f.replace("issuer.yaml", []byte(f.text(feedIssuerConfig)))
	f.startIssuer()
	return f
}

func (f *issuerAndGate) text(template string) string {
	return strings.NewReplacer("ISSUER", f.issuerAddress, "RELAY", f.relay.Addr().String(), "UPSTREAM", f.gate.upstream.url()).Replace(template) + feedPartners
}

func (f *issuerAndGate) startIssuer() {
	f.t.Helper()
	f.check(f.start(binary(f.t), filepath.Join(f.dir, "issuer.yaml")))
}

// configureGate writes the gate's configuration, with edits.
func (f *issuerAndGate) configureGate(edits ...string) {
	f.t.Helper()
	text := f.text(feedGateConfig)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			f.t.Fatalf("the configuration does not hold %q", edits[i])
		}
		text = strings.ReplaceAll(text, edits[i], edits[i+1])
	}
	f.replace("gate.yaml", []byte(text))
}

func (f *issuerAndGate) startGate() {
	f.t.Helper()
	f.gate.serve()
}

// run runs a command in the folder and returns its output.
func (f *issuerAndGate) run(arguments ...string) (string, error) {
	command := exec.Command(binary(f.t), arguments...)
	command.Dir = f.dir
	out, err := command.CombinedOutput()
	return string(out), err
}

// fetch gets a token from the issuer.
func (f *issuerAndGate) fetch(certificate, clientID string) string {
	f.t.Helper()
	command := exec.Command(binary(f.t), "token", "--metadata", "https://"+f.issuerAddress, "--ca", "gate.pem", "--cert", certificate+".pem", "--key", certificate+"-key.pem", "--client-id", clientID)
	command.Dir = f.dir
	out, err := command.Output()
	f.check(err)
	token := strings.TrimSpace(string(out))
	f.gate.tokens[certificate] = token
	return token
}

// revoke revokes at the issuer.
func (f *issuerAndGate) revoke(arguments ...string) {
	f.t.Helper()
	if out, err := f.run(append([]string{"revoke", "--config", "issuer.yaml"}, arguments...)...); err != nil {
		f.t.Fatalf("revoke %v: %v %s", arguments, err, out)
	}
}

// revokeToken revokes one token at the issuer.
func (f *issuerAndGate) revokeToken(token string) {
	f.t.Helper()
	command := exec.Command(binary(f.t), "revoke", "--config", "issuer.yaml", "--token")
	command.Dir, command.Stdin = f.dir, strings.NewReader(token)
	if out, err := command.CombinedOutput(); err != nil {
		f.t.Fatalf("revoke: %v %s", err, out)
	}
}

// ask sends a request with a certificate and a token and returns the status and the reason.
func (f *issuerAndGate) ask(certificate, token string) (int, string) {
	f.t.Helper()
	transport := &http.Transport{TLSClientConfig: f.gate.client(certificate)}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(accountRequest(f.t.Context(), f.gate.addresses["partners"], token))
	f.check(err)
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	_, reason, _ := strings.Cut(string(body), `"reason":"`)
	reason, _, _ = strings.Cut(reason, `"`)
	if response.StatusCode == http.StatusOK {
		reason = "granted"
	}
	return response.StatusCode, reason
}

// becomes waits until the gate gives the token this reason. If it refuses the token, no request reaches the upstream.
func (f *issuerAndGate) becomes(certificate, token, want string) {
	f.t.Helper()
	began := time.Now()
	gatetest.EventuallyEqual(f.t, "the reason for the token of "+certificate, want, func() string {
		_, reason := f.ask(certificate, token)
		return reason
	})
	f.t.Logf("%s: %s after %s", certificate, want, time.Since(began).Round(time.Millisecond))
	f.is(certificate, token, want)
}

// is expects the reason of a request, and that a refused request does not reach the upstream.
func (f *issuerAndGate) is(certificate, token, want string) {
	f.t.Helper()
	f.gate.upstream.forget()
	status, reason := f.ask(certificate, token)
	wantStatus, wantRequests := 401, 0
	switch want {
	case "granted":
		wantStatus, wantRequests = 200, 1
	case "revocations_stale", "issuer_unavailable":
		wantStatus = 503
	}
	if _, n := f.gate.upstream.take(); status != wantStatus || reason != want || n != wantRequests {
		f.t.Errorf("%s: got %d %s and %d requests at the upstream, want %d %s and %d", certificate, status, reason, n, wantStatus, want, wantRequests)
	}
}

// ready waits until /readyz has the status, and returns its body.
func (f *issuerAndGate) ready(want int) (text string) {
	f.t.Helper()
	gatetest.EventuallyEqual(f.t, "status of /readyz", want, func() int {
		status, body, err := f.gate.admin("/readyz")
		f.check(err)
		text = string(body)
		return status
	})
	return text
}

// A feedRelay passes connections on to an address until it is cut.
type feedRelay struct {
	net.Listener
	mu    sync.Mutex
	to    string // "" while the relay is cut
	conns []net.Conn
}

func newFeedRelay(t *testing.T, to string) *feedRelay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &feedRelay{Listener: l, to: to}
	t.Cleanup(func() {
		_ = l.Close()
		r.pass("")
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.join(c)
		}
	}()
	return r
}

func (r *feedRelay) join(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to == "" {
		_ = c.Close()
		return
	}
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		_ = c.Close()
		return
	}
	r.conns = append(r.conns, c, out)
	for _, pair := range [][2]net.Conn{{c, out}, {out, c}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].Close()
			_ = pair[1].Close()
		}()
	}
}

// pass makes the relay pass connections on to an address, or, with "", cuts all connections.
func (r *feedRelay) pass(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to = to; to == "" {
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.conns = nil
	}
}

// The gate in one process refuses every token, application, partner and certificate that the issuer in another
// process revokes.
func TestFeedRevokes(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	f.configureGate()
	f.startGate()
	f.ready(200)
	first, second, sync := f.fetch("northwind", "northwind-ledger"), f.fetch("northwind", "northwind-ledger"), f.fetch("borealis", "borealis-sync")
	for _, token := range []string{first, second} {
		f.is("northwind", token, "granted")
	}
	f.is("borealis", sync, "granted")
	visit, _ := f.gate.visitor("northwind", "northwind", true, 0)
	if v, err := visit(); err != nil || v.status != 200 {
		t.Fatalf("%+v, %v, want 200", v, err)
	}
	f.revokeToken(first)
	f.becomes("northwind", first, "revoked")
	f.is("northwind", second, "granted")
	f.revoke("--application", "northwind-ledger")
	f.becomes("northwind", second, "revoked")
	f.is("borealis", sync, "granted")
	f.revoke("--partner", "borealis")
	f.becomes("borealis", sync, "revoked")
	f.explained(sync, "revoked: the issuer has revoked the tokens of the application", "the revocations are from the folder ")
	f.revoke("--thumbprint", access.ThumbprintOf(f.pairs["northwind"].Cert).String())
	f.becomes("northwind", first, "revoked_certificate")
	f.check(f.gate.expect(`tallygate_connections_active{listener="partners"}`, 0)) // the connection of visit was idle
	for _, cause := range []string{"this token", "the tokens of the application until"} {
		if !strings.Contains(string(f.gate.log.Bytes()), `"error":"the issuer has revoked `+cause) {
			t.Errorf("the log has no refusal because the issuer has revoked %s", cause)
		}
	}
	f.check(f.gate.stop())
}

// explained waits until explain, which reads the gate's state folder, refuses the token of borealis and says want.
func (f *issuerAndGate) explained(token string, want ...string) {
	f.t.Helper()
	f.check(os.WriteFile(filepath.Join(f.dir, "kept.jwt"), []byte(token), 0o600))
	var out string
	if !gatetest.Within(patience, func() bool {
		out, _ = f.run("explain", "-c", "gate.yaml", "--cert", "borealis.pem", "--token-file", "kept.jwt", "--target", "https://api.example.test/accounts/7")
		return !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(out, part) })
	}) {
		f.t.Errorf("explain says\n%s\nwant %q", out, want)
	}
}

// While the feed is cut, when_stale decides, and a reload changes when_stale. A revoked token is refused in any case. A
// token that is revoked meanwhile is refused once the feed is back.
func TestFeedIsStale(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	introspection := []string{"    connection: {trust", "    introspection: {client_id: orders-gate, cache: {max_age: 60s}}\n    connection: {trust"}
	mode := func(name string) []string {
		return append([]string{"when_stale: refuse", "when_stale: " + name}, introspection...)
	}
	f.configureGate()
	f.startGate()
	f.ready(200)
	revoked, token, late := f.fetch("northwind", "northwind-ledger"), f.fetch("northwind", "northwind-ledger"), f.fetch("northwind", "northwind-ledger")
	f.revokeToken(revoked)
	f.becomes("northwind", revoked, "revoked")
	f.relay.pass("")
	f.is("northwind", token, "granted") // within max_staleness
	f.becomes("northwind", token, "revocations_stale")
	f.is("northwind", revoked, "revoked")
	f.revokeToken(late)

	f.configureGate("when_stale: refuse", "when_stale: continue")
	f.check(f.gate.reloaded("ok", 1))
	f.is("northwind", token, "granted")
	f.is("northwind", late, "granted") // the gate cannot know
	f.is("northwind", revoked, "revoked")

	f.configureGate(mode("introspect")...)
	f.check(f.gate.reloaded("ok", 2))
	f.is("northwind", token, "granted")
	f.is("northwind", late, "inactive")
	f.is("northwind", revoked, "revoked")

	f.relay.pass(f.issuerAddress)
	f.becomes("northwind", late, "revoked")
	f.is("northwind", token, "granted")

	f.check(f.gate.stop())
}

// A restarted gate refuses the tokens that it refused before, and is not ready before the issuer has sent a
// heartbeat. The body of /readyz says why. A reload turns the feed off and on.
func TestFeedAndRestarts(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	f.configureGate()
	f.startGate()
	f.ready(200)
	revoked, token := f.fetch("northwind", "northwind-ledger"), f.fetch("northwind", "northwind-ledger")
	f.revokeToken(revoked)
	f.becomes("northwind", revoked, "revoked")
	f.check(f.gate.stop())
	f.relay.pass("")
	f.startGate()
	f.becomes("northwind", revoked, "revoked") // from the state folder, once the keys have been fetched
	f.relay.pass(f.issuerAddress)
	f.ready(200)
	f.is("northwind", token, "granted")
	f.is("northwind", revoked, "revoked")

	f.configureGate("revocations: {", "# revocations: {")
	f.check(f.gate.reloaded("ok", 1))
	f.is("northwind", revoked, "granted")
	f.configureGate()
	f.check(f.gate.reloaded("ok", 2)) // the reload has waited for the feed
	f.is("northwind", revoked, "revoked")
	f.configureGate("revocations: {", "# revocations: {")
	f.check(f.gate.reloaded("ok", 3))
	f.configureGate("ours", "renamed", "state: feed, ", "") // the reload also fetches the keys that verify the feed
	f.check(f.gate.reloaded("ok", 4))
	f.is("northwind", revoked, "revoked")
	f.configureGate()
	f.check(f.gate.reloaded("ok", 5))
	f.is("northwind", token, "granted")
	f.check(f.gate.stop())

	f.check(os.RemoveAll(filepath.Join(f.dir, "feed")))
	f.relay.pass("")
	f.startGate()
	if text := f.ready(503); !strings.Contains(text, `revocations of authorization server "ours": `) {
		t.Errorf("/readyz = %q, want the cause", text)
	}
	f.becomes("northwind", token, "revocations_stale")
	f.check(f.gate.stop())
}
