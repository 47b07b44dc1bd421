package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// listed is a configuration with anchors, each of a partner of its own, and lists.
type listed struct {
	*config.Config
	t   *testing.T
	dir string
}

func newListed(t *testing.T, anchors ...*testpki.Pair) *listed {
	t.Helper()
	l := &listed{&config.Config{}, t, t.TempDir()}
	l.revocation().Refresh, l.revocation().WhenStale = time.Hour, config.RefuseStale
	for i, ca := range anchors {
		name := "partner" + strconv.Itoa(i)
		file, _ := ca.Write(l.dir, name)
		l.Partners.List = append(l.Partners.List, config.Partner{Name: config.Name(name), Trust: []config.Path{config.Path(file)}})
	}
	return l
}

func (l *listed) revocation() *config.Revocation {
	return &l.Listener.ClientCertificates.Revocation
}

// file names a list in a file.
func (l *listed) file(name string) {
	l.revocation().Lists = append(l.revocation().Lists, config.RevocationList{File: l.path(name)})
}

// at names a list at a URL.
func (l *listed) at(place string) {
	l.t.Helper()
	u, err := url.Parse(place)
	if err != nil {
		l.t.Fatal(err)
	}
	l.revocation().Lists = append(l.revocation().Lists, config.RevocationList{URL: &config.URL{URL: *u}})
}

func (l *listed) path(name string) config.Path { return config.Path(filepath.Join(l.dir, name)) }

func (l *listed) load(previous *Trust) *Trust {
	l.t.Helper()
	trust, err := LoadTrust(l.Config, Options{Previous: previous})
	if err != nil {
		l.t.Fatal(err)
	}
	return trust
}

// judged holds a certificate to be judged so, per request and per handshake.
func judged(t *testing.T, trust *Trust, chain []*x509.Certificate, want access.Reason) {
	t.Helper()
	_, err := trust.Client(connected(chain))
	settings := ServerConfig(func() *Trust { return trust }, testpki.SelfSigned("gate").TLS(), config.TLS12, config.Handshake, NewHandshakes(prometheus.NewRegistry()))
	handshake := settings.VerifyConnection(tls.ConnectionState{PeerCertificates: chain})
	if reason(err) != want || reason(handshake) != want {
		t.Errorf("judged %s, in the handshake %s, want %s: %v", reason(err), reason(handshake), want, err)
	}
}

// T-CRL-01, T-CRL-06: whoever is on the list of his authority is refused, and so is
// everybody below an authority that is. Nobody else is.
func TestRevokedCertificates(t *testing.T) {
	root, other := testpki.NewCA("Root"), testpki.NewCA("Other")
	issuing, second := root.Intermediate("Issuing"), root.Intermediate("Second")
	direct, gone, below, sibling := root.Leaf("direct"), root.Leaf("gone"), issuing.Leaf("below"), second.Leaf("sibling")
	twin := other.Leaf("twin", func(c *x509.Certificate) { c.SerialNumber = gone.Cert.SerialNumber }) // another's serial number
	l := newListed(t, root, other)
	l.revocation().Exempt = []config.Path{l.path("partner1.pem")}
	root.WriteRevocationList(l.dir, "root.crl", testpki.Revoking(gone, issuing))
	l.file("root.crl")
	trust := l.load(nil)
	judged(t, trust, chain(direct), access.Granted)
	judged(t, trust, chain(gone), access.RevokedCertificate)
	judged(t, trust, chain(below), access.RevokedCertificate)
	judged(t, trust, chain(sibling), access.RevocationUnknown) // by the other issuing authority, whose list is not there
	judged(t, trust, chain(twin), access.Granted)
	_, err := trust.Client(connected(chain(gone)))
	if !strings.Contains(err.Error(), "is on the list of CN=Root of ") {
		t.Errorf("the log says %v", err)
	}

	// The list of an issuing authority needs its certificate.
	issuing.WriteRevocationList(l.dir, "issuing.crl", testpki.Revoking(below))
	root.WriteRevocationList(l.dir, "root.crl")
	l.file("issuing.crl")
	judged(t, l.load(nil), chain(below), access.RevocationUnknown) // the list is left out
	l.revocation().WhenStale = config.AcceptStale
	if _, err := LoadTrust(l.Config, Options{}); err == nil || !strings.Contains(err.Error(), "neither an anchor nor among revocation.authorities") {
		t.Errorf("LoadTrust returned %v; want an error about the list's issuer", err)
	}
	l.revocation().WhenStale = config.RefuseStale
	issuing.Write(l.dir, "issuing")
	l.revocation().Authorities = []config.Path{l.path("issuing.pem")}
	trust = l.load(trust)
	judged(t, trust, chain(gone), access.Granted)
	judged(t, trust, chain(below), access.RevokedCertificate)
	judged(t, trust, chain(issuing.Leaf("beside")), access.Granted)
	second.Write(l.dir, "second")
	l.revocation().Exempt = append(l.revocation().Exempt, l.path("second.pem"))
	judged(t, l.load(trust), chain(sibling), access.Granted)
}

// On an open connection a revocation counts from the next request on, whatever was found
// out about the connection before.
func TestRevokedOnAnOpenConnection(t *testing.T) {
	root, other := testpki.NewCA("Root"), testpki.NewCA("Other")
	leaf := root.Leaf("a")
	l := newListed(t, root, other)
	root.WriteRevocationList(l.dir, "root.crl")
	l.file("root.crl")
	first := l.load(nil)
	r := connected(chain(leaf))
	for range 2 {
		if _, err := first.Client(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = first.Client(r) }); n > 0 {
		t.Errorf("a request takes %v allocations", n)
	}
	if l.load(first) != first {
		t.Error("without a change there is another Trust")
	}
	root.WriteRevocationList(l.dir, "root.crl", testpki.Numbered(7), testpki.Revoking(leaf))
	second := l.load(first)
	for name, list := range map[string][]byte{
		"a list of before": root.RevocationList(testpki.Numbered(6)),
		"another's list":   other.RevocationList(testpki.Numbered(8)),
	} {
		if err := os.WriteFile(string(l.path("root.crl")), list, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.load(second).Client(r); reason(err) == access.Granted {
			t.Errorf("%s takes a revocation back", name)
		}
	}
	if _, err := second.Client(r); reason(err) != access.RevokedCertificate {
		t.Errorf("judged %v", err)
	}
}

// T-CRL-02, T-CRL-03: what cannot be told is refused, unless it was asked for otherwise;
// what is known to be revoked is refused either way.
func TestUnknownStatus(t *testing.T) {
	root, namesake, bystander := testpki.NewCA("Root"), testpki.NewCA("Root"), testpki.NewCA("Bystander")
	leaf, gone := root.Leaf("a"), root.Leaf("b")
	stale := testpki.Updated(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Minute))
	for name, c := range map[string]struct {
		list      func(l *listed)
		leaf      access.Reason // where the policy is to refuse
		namesake  access.Reason
		bystander access.Reason
	}{
		"in time": {func(l *listed) { root.WriteRevocationList(l.dir, "a.crl", testpki.Revoking(gone)); l.file("a.crl") }, access.Granted, access.RevocationUnknown, access.Granted},
		"past its update": {func(l *listed) {
			root.WriteRevocationList(l.dir, "a.crl", testpki.Revoking(gone), stale)
			l.file("a.crl")
		}, access.RevocationUnknown, access.RevocationUnknown, access.Granted},
		"not read yet": {func(l *listed) { l.at("http://127.0.0.1:1/a.crl") }, access.RevocationUnknown, access.RevocationUnknown, access.Granted},
		"another's not read": {func(l *listed) {
			root.WriteRevocationList(l.dir, "a.crl", testpki.Revoking(gone))
			l.file("a.crl")
			l.at("http://127.0.0.1:1/b.crl")
		}, access.Granted, access.RevocationUnknown, access.Granted},
		"for authorities only": {func(l *listed) {
			root.WriteRevocationList(l.dir, "a.crl", extension(true, point([]byte{0x82, 1, 0xff}), 2, 5, 29, 28))
			l.file("a.crl")
		}, access.RevocationUnknown, access.RevocationUnknown, access.Granted},
	} {
		t.Run(name, func(t *testing.T) {
			l := newListed(t, root, namesake, bystander)
			l.revocation().Exempt = []config.Path{l.path("partner2.pem")} // the bystander
			c.list(l)
			trust := l.load(nil)
			judged(t, trust, chain(leaf), c.leaf)
			judged(t, trust, chain(namesake.Leaf("a")), c.namesake)
			judged(t, trust, chain(bystander.Leaf("a")), c.bystander)
			known := strings.HasPrefix(name, "not") || strings.HasPrefix(name, "for")
			if !known {
				judged(t, trust, chain(gone), access.RevokedCertificate)
			}
			if unread := trust.Ready() != nil; unread != strings.HasSuffix(name, "read") && unread != strings.HasPrefix(name, "not") {
				t.Errorf("ready: %v", trust.Ready())
			}
			l.revocation().WhenStale = config.AcceptStale
			trust = l.load(trust)
			judged(t, trust, chain(leaf), access.Granted)
			judged(t, trust, chain(namesake.Leaf("a")), access.Granted)
			if !known {
				judged(t, trust, chain(gone), access.RevokedCertificate)
			}
			if err := trust.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
		})
	}
}

// T-TLS-13: of two ways to anchors, one on which an authority was revoked does not count,
// nor does its anchor; the other does.
func TestRevokedAuthorityOnOneWay(t *testing.T) {
	one, two := testpki.NewCA("One"), testpki.NewCA("Two")
	issuing := one.Intermediate("Issuing")
	crossed := cross(t, issuing, two)
	leaf := issuing.Leaf("a")
	shown := append(chain(leaf), crossed)
	l := newListed(t, one, two)
	one.WriteRevocationList(l.dir, "one.crl", testpki.Revoking(issuing))
	issuing.WriteRevocationList(l.dir, "issuing.crl")
	two.WriteRevocationList(l.dir, "two.crl")
	issuing.Write(l.dir, "issuing")
	l.revocation().Authorities = []config.Path{l.path("issuing.pem")}
	l.file("one.crl")
	l.file("two.crl")
	l.file("issuing.crl")
	trust := l.load(nil)
	c, err := trust.Client(connected(shown))
	if err != nil || len(c.Anchors) != 1 || !c.ChainsTo(trust.Anchors()["partner1"]) || c.ChainsTo(trust.Anchors()["partner0"]) {
		t.Fatalf("%+v, %v", c, err)
	}
	two.WriteRevocationList(l.dir, "two.crl", testpki.Numbered(2), testpki.Revoking(&testpki.Pair{Cert: crossed}))
	judged(t, l.load(trust), shown, access.RevokedCertificate)
}

// cross returns a certificate of the authority a by another.
func cross(t *testing.T, a, by *testpki.Pair) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: a.Cert.SerialNumber, Subject: a.Cert.Subject, NotBefore: a.Cert.NotBefore, NotAfter: a.Cert.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: a.Cert.KeyUsage,
	}, by.Cert, a.Key.Public(), by.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A publisher serves lists, and counts how it was asked.
type publisher struct {
	*httptest.Server
	mu              sync.Mutex
	list            []byte
	status          int
	asked, repeated int
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	p := &publisher{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked++
		etag := strconv.Quote(strconv.Itoa(len(p.list)))
		switch {
		case r.URL.Path == "/moved.crl":
			http.Redirect(w, r, "/list.crl", http.StatusMovedPermanently)
		case r.URL.Path == "/abroad.crl":
			http.Redirect(w, r, strings.Replace(p.URL, "127.0.0.1", "localhost", 1)+"/list.crl", http.StatusMovedPermanently)
		case p.status != 0:
			w.WriteHeader(p.status)
		case r.Header.Get("If-None-Match") == etag:
			p.repeated++
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", etag)
			_, _ = w.Write(p.list)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) publish(status int, list []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.list = status, list
}

func (p *publisher) counts() (asked, repeated int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.repeated
}

// A list at a URL is read, and read again; while that fails, and when an older one comes,
// the last good one counts.
func TestPublishedList(t *testing.T) {
	root := testpki.NewCA("Root")
	leaf, gone := root.Leaf("a"), root.Leaf("b")
	p := newPublisher(t)
	p.publish(http.StatusServiceUnavailable, nil)
	l := newListed(t, root)
	l.at(p.URL + "/list.crl?secret=1")
	registry := prometheus.NewRegistry()
	trust, err := LoadTrust(l.Config, Options{Metrics: NewRevocationMetrics(registry)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error { return trust.revocation.fetch(t.Context(), trust.revocation.sources[0]) }
	if err := trust.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "status 503") || strings.Contains(err.Error(), "secret") {
		t.Errorf("read: %v", err)
	}
	judged(t, trust, chain(leaf), access.RevocationUnknown)
	p.publish(0, root.RevocationList(testpki.Numbered(7), testpki.Revoking(gone)))
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	good := func() {
		t.Helper()
		judged(t, trust, chain(leaf), access.Granted)
		judged(t, trust, chain(gone), access.RevokedCertificate)
	}
	good()
	if err := ask(); err != nil {
		t.Error(err)
	}
	if _, repeated := p.counts(); repeated != 1 {
		t.Error("an unchanged list is sent again")
	}
	yesterday := testpki.Updated(time.Now().Add(-26*time.Hour), time.Now().Add(time.Hour))
	for name, list := range map[string][]byte{
		"with a lower number": root.RevocationList(testpki.Numbered(6)),
		"of yesterday":        root.RevocationList(testpki.Numbered(8), yesterday),
		"of another":          testpki.NewCA("Root").RevocationList(testpki.Numbered(8)),
		"a web page":          []byte("<html>"),
		"nothing":             {},
	} {
		p.publish(0, list)
		if err := ask(); err == nil {
			t.Errorf("a list %s was taken", name)
		}
		good()
	}
	p.publish(http.StatusNotFound, nil)
	if err := ask(); err == nil {
		t.Error("a status of 404 was taken")
	}
	good()

	p.publish(0, root.RevocationList(testpki.Numbered(8), testpki.Revoking(gone, leaf)))
	ctx, stop := context.WithCancel(t.Context())
	trust.revocation.sources[0].tried = time.Time{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		trust.Run(ctx)
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := trust.Client(connected(chain(leaf))); reason(err) == access.RevokedCertificate {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the list is not read again")
		}
	}
	stop()
	<-done
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if n := testutil.ToFloat64(trust.metrics.entries.WithLabelValues(trust.revocation.sources[0].String())); n != 2 {
		t.Errorf("%v entries", n)
	}

	// What is read while another is made to take its place counts there too.
	p.publish(0, root.RevocationList(testpki.Numbered(9), testpki.Revoking(gone, leaf)))
	l.revocation().Refresh = 2 * time.Hour
	slow := l.load(trust)
	late := root.Leaf("c")
	judged(t, slow, chain(late), access.Granted)
	p.publish(0, root.RevocationList(testpki.Numbered(10), testpki.Revoking(gone, leaf, late)))
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	judged(t, slow, chain(late), access.RevokedCertificate)

	// Whoever takes its place goes on with what was read, also when nobody answers any more.
	p.Close()
	l.revocation().WhenStale = config.AcceptStale
	next := l.load(trust)
	if next == trust {
		t.Fatal("nothing has changed")
	}
	if err := next.Read(t.Context()); err != nil {
		t.Errorf("what was read is read again: %v", err)
	}
	judged(t, next, chain(gone), access.RevokedCertificate)
	if due := next.revocation.due(next.revocation.sources[0]); due < time.Minute {
		t.Errorf("the next reading is due in %s", due)
	}
}

// A redirect leads to another path, and to no other host.
func TestRedirectedList(t *testing.T) {
	root := testpki.NewCA("Root")
	p := newPublisher(t)
	p.publish(0, root.RevocationList())
	for path, ok := range map[string]bool{"/moved.crl": true, "/abroad.crl": false} {
		l := newListed(t, root)
		l.at(p.URL + path)
		trust := l.load(nil)
		if err := trust.Read(t.Context()); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Readings that fail are tried again soon, and less and less often.
func TestDue(t *testing.T) {
	r := &revocation{refresh: 10 * time.Minute}
	for failed, want := range []time.Duration{10 * time.Minute, 5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 10 * time.Minute, 10 * time.Minute} {
		due := r.due(&source{tried: time.Now(), failed: failed})
		if due < want-time.Second || due > want+want/5+time.Second {
			t.Errorf("after %d failures the next reading is due in %s, want %s", failed, due, want)
		}
	}
	if due := r.due(&source{}); due != 0 {
		t.Errorf("the first reading is due in %s", due)
	}
}

// A list in a file that is missing, or no list, is a fault, and so is a file of authorities.
func TestListFaults(t *testing.T) {
	root := testpki.NewCA("Root")
	l := newListed(t, root)
	l.file("missing.crl")
	if _, err := LoadTrust(l.Config, Options{}); err == nil || !strings.Contains(err.Error(), "missing.crl") {
		t.Errorf("taken: %v", err)
	}
	root.WriteRevocationList(l.dir, "missing.crl")
	l.revocation().Authorities = []config.Path{l.path("missing.crl")}
	if _, err := LoadTrust(l.Config, Options{}); err == nil {
		t.Error("a list was taken for authorities")
	}
}
