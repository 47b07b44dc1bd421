package crl

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is a configuration of revocation lists, with the anchors that it is for.
type harness struct {
	config.Revocation
	t       *testing.T
	dir     string
	anchors []*x509.Certificate
	log     bytes.Buffer
}

func newHarness(t *testing.T, anchors ...*testpki.Pair) *harness {
	t.Helper()
	h := &harness{t: t, dir: t.TempDir()}
	h.Refresh, h.WhenStale = time.Hour, config.RefuseStale
	for _, ca := range anchors {
		h.anchors = append(h.anchors, ca.Cert)
	}
	return h
}

func (h *harness) tryLoad(previous *Checker) (*Checker, error) {
	return Load(&h.Revocation, h.anchors, Options{
		Previous: previous, Log: slog.New(slog.NewTextHandler(&h.log, nil)), Metrics: NewMetrics(prometheus.NewRegistry()),
	})
}

func (h *harness) load(previous *Checker) *Checker {
	h.t.Helper()
	c, err := h.tryLoad(previous)
	if err != nil {
		h.t.Fatalf("Load returned %v", err)
	}
	return c
}

// write writes the certificate of an authority to a file.
func (h *harness) write(ca *testpki.Pair) config.Path {
	h.t.Helper()
	file, _ := ca.Write(h.dir, strings.ToLower(ca.Cert.Subject.CommonName))
	return config.Path(file)
}

// status returns the result of c for the first chain that crypto/x509 finds from shown to an
// anchor, or for only the leaf if there is no chain.
func (h *harness) status(c *Checker, shown []*x509.Certificate) access.Reason {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range h.anchors {
		roots.AddCert(a)
	}
	for _, i := range shown[1:] {
		intermediates.AddCert(i)
	}
	certificates := c.Unchained(shown[0])
	if chains, err := shown[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		certificates = c.Chain(chains[0])
	}
	if err := c.Check(certificates, time.Now()); err != nil {
		return access.ReasonOf(err)
	}
	return access.Granted
}

// expect fails the test unless status is want.
func (h *harness) expect(c *Checker, shown []*x509.Certificate, want access.Reason) {
	h.t.Helper()
	if got := h.status(c, shown); got != want {
		h.t.Errorf("Check of %s returned %s, want %s", shown[0].Subject, got, want)
	}
}

// chain returns the leaf and the intermediates of p.
func chain(p *testpki.Pair) []*x509.Certificate {
	return append([]*x509.Certificate{p.Cert}, p.Intermediates...)
}

// file adds a list in a file.
func (h *harness) file(name string) {
	h.Lists = append(h.Lists, config.RevocationList{File: h.path(name)})
}

// at adds a list at a URL.
func (h *harness) at(place string) {
	h.t.Helper()
	u, err := url.Parse(place)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Lists = append(h.Lists, config.RevocationList{URL: &config.URL{URL: *u}})
}

func (h *harness) path(name string) config.Path { return config.Path(filepath.Join(h.dir, name)) }

// T-CRL-01, T-CRL-06: a certificate on the list of its authority is revoked, and so is every certificate
// below a revoked authority. No other certificate is.
func TestRevokedCertificates(t *testing.T) {
	root, other := testpki.NewCA("Root"), testpki.NewCA("Other")
	issuing, second := root.Intermediate("Issuing"), root.Intermediate("Second")
	direct, gone, below, sibling := root.Leaf("direct"), root.Leaf("gone"), issuing.Leaf("below"), second.Leaf("sibling")
	twin := other.Leaf("twin", func(c *x509.Certificate) { c.SerialNumber = gone.Cert.SerialNumber }) // the same serial number from another authority
	h := newHarness(t, root, other)
	h.Exempt = []config.Path{h.write(other)}
	root.WriteRevocationList(h.dir, "root.crl", testpki.Revoking(gone, issuing))
	h.file("root.crl")
	checker := h.load(nil)
	h.expect(checker, chain(direct), access.Granted)
	h.expect(checker, chain(gone), access.RevokedCertificate)
	h.expect(checker, chain(below), access.RevokedCertificate)
	h.expect(checker, chain(sibling), access.RevocationUnknown) // the second issuing authority has no list
	h.expect(checker, chain(twin), access.Granted)
	if err := checker.Check(checker.Chain(append(chain(gone), root.Cert)), time.Now()); !strings.Contains(err.Error(), "is on the list of CN=Root of ") {
		t.Errorf("Check of a revoked certificate returned %q, want the name of the issuer and the date", err)
	}

	// The list of an issuing authority needs its certificate.
	issuing.WriteRevocationList(h.dir, "issuing.crl", testpki.Revoking(below))
	root.WriteRevocationList(h.dir, "root.crl")
	h.file("issuing.crl")
	h.expect(h.load(nil), chain(below), access.RevocationUnknown) // the list is left out
	h.WhenStale = config.AcceptStale
	if _, err := h.tryLoad(nil); err == nil || !strings.Contains(err.Error(), "neither an anchor nor among revocation.authorities") {
		t.Errorf("Load returned %v; want an error about the list's issuer", err)
	}
	h.WhenStale = config.RefuseStale
	h.Authorities = []config.Path{h.write(issuing)}
	checker = h.load(checker)
	h.expect(checker, chain(gone), access.Granted)
	h.expect(checker, chain(below), access.RevokedCertificate)
	h.expect(checker, chain(issuing.Leaf("beside")), access.Granted)
	h.Exempt = append(h.Exempt, h.write(second))
	h.expect(h.load(checker), chain(sibling), access.Granted)
}

// T-CRL-02, T-CRL-03: an unknown status is an error, except with when_stale: accept. A revoked certificate is
// an error with either setting.
func TestUnknownStatus(t *testing.T) {
	root, namesake, bystander := testpki.NewCA("Root"), testpki.NewCA("Root"), testpki.NewCA("Bystander")
	leaf, gone := root.Leaf("a"), root.Leaf("b")
	stale := testpki.Updated(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Minute))
	for name, c := range map[string]struct {
		list      func(h *harness)
		leaf      access.Reason // with the policy to refuse
		namesake  access.Reason
		bystander access.Reason
	}{
		"in time": {func(h *harness) { root.WriteRevocationList(h.dir, "a.crl", testpki.Revoking(gone)); h.file("a.crl") }, access.Granted, access.RevocationUnknown, access.Granted},
		"past its update": {func(h *harness) {
			root.WriteRevocationList(h.dir, "a.crl", testpki.Revoking(gone), stale)
			h.file("a.crl")
		}, access.RevocationUnknown, access.RevocationUnknown, access.Granted},
		"not read yet": {func(h *harness) { h.at("http://127.0.0.1:1/a.crl") }, access.RevocationUnknown, access.RevocationUnknown, access.Granted},
		"another's not read": {func(h *harness) {
			root.WriteRevocationList(h.dir, "a.crl", testpki.Revoking(gone))
			h.file("a.crl")
			h.at("http://127.0.0.1:1/b.crl")
		}, access.Granted, access.RevocationUnknown, access.Granted},
		"for authorities only": {func(h *harness) {
			root.WriteRevocationList(h.dir, "a.crl", extension(true, point([]byte{0x82, 1, 0xff}), 2, 5, 29, 28))
			h.file("a.crl")
		}, access.RevocationUnknown, access.RevocationUnknown, access.Granted},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, root, namesake, bystander)
			h.Exempt = []config.Path{h.write(bystander)}
			c.list(h)
			checker := h.load(nil)
			h.expect(checker, chain(leaf), c.leaf)
			h.expect(checker, chain(namesake.Leaf("a")), c.namesake)
			h.expect(checker, chain(bystander.Leaf("a")), c.bystander)
			known := strings.HasPrefix(name, "not") || strings.HasPrefix(name, "for")
			if !known {
				h.expect(checker, chain(gone), access.RevokedCertificate)
			}
			if unread := checker.Ready() != nil; unread != strings.HasSuffix(name, "read") && unread != strings.HasPrefix(name, "not") {
				t.Errorf("ready: %v", checker.Ready())
			}
			h.WhenStale = config.AcceptStale
			checker = h.load(checker)
			h.expect(checker, chain(leaf), access.Granted)
			h.expect(checker, chain(namesake.Leaf("a")), access.Granted)
			if !known {
				h.expect(checker, chain(gone), access.RevokedCertificate)
			}
			if err := checker.Ready(); err != nil {
				t.Errorf("Ready returned %v, want nil", err)
			}
		})
	}
}

// A publisher serves lists and counts requests.
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

// A list at a URL is fetched repeatedly. If a fetch fails, or returns an older list, the previous list stays in
// force.
func TestPublishedList(t *testing.T) {
	root := testpki.NewCA("Root")
	leaf, gone := root.Leaf("a"), root.Leaf("b")
	p := newPublisher(t)
	p.publish(http.StatusServiceUnavailable, nil)
	h := newHarness(t, root)
	h.at(p.URL + "/list.crl?secret=1")
	registry := prometheus.NewRegistry()
	checker, err := Load(&h.Revocation, h.anchors, Options{Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(registry)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error { return checker.fetch(t.Context(), checker.sources[0]) }
	if err := checker.FetchAdded(t.Context()); err == nil || !strings.Contains(err.Error(), "status 503") || strings.Contains(err.Error(), "secret") {
		t.Errorf("FetchAdded returned %v, want the status 503 without the query", err)
	}
	h.expect(checker, chain(leaf), access.RevocationUnknown)
	p.publish(0, root.RevocationList(testpki.Numbered(7), testpki.Revoking(gone)))
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	good := func() {
		t.Helper()
		h.expect(checker, chain(leaf), access.Granted)
		h.expect(checker, chain(gone), access.RevokedCertificate)
	}
	good()
	if err := ask(); err != nil {
		t.Error(err)
	}
	if _, repeated := p.counts(); repeated != 1 {
		t.Error("the server sent an unchanged list again, want 304 Not Modified")
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
			t.Errorf("fetch accepted a list %s, want an error", name)
		}
		good()
	}
	p.publish(http.StatusNotFound, nil)
	if err := ask(); err == nil {
		t.Error("fetch accepted a status of 404, want an error")
	}
	good()

	p.publish(0, root.RevocationList(testpki.Numbered(8), testpki.Revoking(gone, leaf)))
	ctx, stop := context.WithCancel(t.Context())
	checker.sources[0].tried = time.Time{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		checker.Run(ctx)
	}()
	gatetest.EventuallyEqual(t, "status of the certificate while Run fetches", access.RevokedCertificate, func() access.Reason {
		return h.status(checker, chain(leaf))
	})
	stop()
	<-done
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("GatherAndLint found %v, %v, want no problem", problems, err)
	}
	if n := testutil.ToFloat64(checker.metrics.entries.WithLabelValues(checker.sources[0].String())); n != 2 {
		t.Errorf("tallygate_crl_entries is %v, want 2", n)
	}

	// A fetch of the previous Checker takes effect in the next Checker too.
	p.publish(0, root.RevocationList(testpki.Numbered(9), testpki.Revoking(gone, leaf)))
	h.Refresh = 2 * time.Hour
	slow := h.load(checker)
	late := root.Leaf("c")
	h.expect(slow, chain(late), access.Granted)
	p.publish(0, root.RevocationList(testpki.Numbered(10), testpki.Revoking(gone, leaf, late)))
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	h.expect(slow, chain(late), access.RevokedCertificate)

	// The next Checker uses the lists of the previous Checker, also if the server is gone.
	p.Close()
	h.WhenStale = config.AcceptStale
	next := h.load(checker)
	if next.Equal(checker) {
		t.Error("Equal reports no difference, want one in when_stale")
	}
	if err := next.FetchAdded(t.Context()); err != nil {
		t.Errorf("FetchAdded returned %v, want no fetch of a known list", err)
	}
	h.expect(next, chain(gone), access.RevokedCertificate)
	if due, _ := next.nextFetch(next.sources[0]); due < time.Minute {
		t.Errorf("nextFetch returned %s, want at least a minute", due)
	}
}

// A redirect may lead to another path, but not to another host.
func TestRedirectedList(t *testing.T) {
	root := testpki.NewCA("Root")
	p := newPublisher(t)
	p.publish(0, root.RevocationList())
	for path, ok := range map[string]bool{"/moved.crl": true, "/abroad.crl": false} {
		h := newHarness(t, root)
		h.at(p.URL + path)
		checker := h.load(nil)
		if err := checker.FetchAdded(t.Context()); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Failed fetches are retried soon, with growing delays.
func TestNextFetch(t *testing.T) {
	r := &Checker{interval: 10 * time.Minute}
	for failed, want := range []time.Duration{10 * time.Minute, 5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 10 * time.Minute, 10 * time.Minute} {
		due, failures := r.nextFetch(&source{tried: time.Now(), failures: failed})
		if due < want-want/10-time.Second || due > want || failures != failed {
			t.Errorf("nextFetch after %d failures returned %s, %d, want %s or up to a tenth less", failed, due, failures, want)
		}
	}
	if due, _ := r.nextFetch(&source{}); due != 0 {
		t.Errorf("nextFetch of an untried source returned %s, want 0", due)
	}
}

// A missing or malformed file of lists or authorities is an error of Load.
func TestListFaults(t *testing.T) {
	root := testpki.NewCA("Root")
	h := newHarness(t, root)
	h.file("missing.crl")
	if _, err := h.tryLoad(nil); err == nil || !strings.Contains(err.Error(), "missing.crl") {
		t.Errorf("accepted, want an error: %v", err)
	}
	root.WriteRevocationList(h.dir, "missing.crl")
	h.Authorities = []config.Path{h.path("missing.crl")}
	if _, err := h.tryLoad(nil); err == nil {
		t.Error("Load accepted a list as a file of authorities, want an error")
	}
}
