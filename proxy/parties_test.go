package proxy

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A refusal is counted for the partner of the client certificate, and its log line names the owners of
// certificate and token. Nothing reaches the upstream.
func TestRefusalNamesBothSides(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request reached the upstream") }))
	defer upstream.Close()
	log := &gatetest.Log{}
	other := testpki.NewCA("Borealis Root")
	s := newHarness(t, upstream.URL, log)
	other.Write(s.dir, "borealis-ca")
	p := s.next(t, func(cfg *config.Config) {
		northwind := &cfg.Partners.List[0]
		northwind.Applications[0].Certificate.SANDNS = "ledger.test"
		second := *northwind
		second.Name, second.Trust = "borealis", []config.Path{config.Path(s.dir + "/borealis-ca.pem")}
		second.Applications = []config.Application{{ClientID: "borealis-sync", APIs: northwind.Applications[0].APIs}}
		cfg.Partners.List = append(cfg.Partners.List, second)
	})
	ledger, renewed, unknown := s.ca.Leaf("ledger", testpki.DNS("ledger.test")), s.ca.Leaf("ledger", testpki.DNS("ledger.test")), s.ca.Leaf("elsewhere")
	thief, stranger := other.Leaf("thief"), testpki.NewCA("Nobody").Leaf("nobody")
	expired := other.Leaf("late", testpki.Expired())
	token := s.mint(ledger, nil)
	foreign := s.mint(ledger, testpki.M{"client_id": "nobody", "sub": "nobody"})
	for _, c := range []struct {
		name                        string
		pair                        *testpki.Pair
		token                       string
		reason                      access.Reason
		partner, application, owner string
		summary                     string
	}{
		{"theft", thief, token, access.BoundToOther, "borealis", "", "northwind", "partner borealis showed a token of partner northwind, application northwind-ledger"},
		{"renewal", renewed, token, access.BoundToPrevious, "northwind", "northwind-ledger", "northwind", "partner northwind showed a token that is bound to an earlier certificate of its application northwind-ledger: a renewal, not a theft"},
		{"within the partner", unknown, token, access.BoundToOther, "northwind", "", "northwind", "partner northwind showed its own token, of application northwind-ledger, with a certificate that no application registers: a renewal, or a theft within the partner"},
		{"a token of nobody", thief, foreign, access.BoundToOther, "borealis", "", "", "partner borealis showed a token of no known application"},
		{"untrusted", stranger, token, access.UntrustedCertificate, "unknown", "", "", ""},
		{"expired", expired, token, access.ExpiredCertificate, "borealis", "", "", ""},
		{"no token", thief, "", access.NoToken, "borealis", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			count := fmt.Sprintf(`tallygate_decisions_total{api="accounts",decision="deny",partner=%q,reason=%q}`, c.partner, c.reason)
			before := s.metric(t, count)
			r, w := s.request(), httptest.NewRecorder()
			r.TLS.PeerCertificates = []*x509.Certificate{c.pair.Cert}
			r.Header.Set("Authorization", "Bearer "+c.token)
			if c.token == "" {
				r.Header.Del("Authorization")
			}
			p.ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), `"reason":"`+c.reason.String()+`"`) {
				t.Fatalf("got %d %s, want 401 %s", w.Code, w.Body, c.reason)
			}
			if n := s.metric(t, count) - before; n != 1 {
				t.Errorf("%v decisions for partner %s, want 1", n, c.partner)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			var line map[string]any
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
				t.Fatal(err)
			}
			text := func(key string) string { s, _ := line[key].(string); return s }
			for key, want := range map[string]string{
				"partner": c.partner, "application": c.application, "token_partner": c.owner, "summary": c.summary,
				"thumbprint": c.pair.Thumbprint(), "host": "api.example.test", "api": "accounts", "route": "/accounts/{id}",
			} {
				if text(key) != want {
					t.Errorf("%s = %q, want %q", key, text(key), want)
				}
			}
			if !strings.Contains(text("subject_dn"), c.pair.Cert.Subject.CommonName) || !strings.HasPrefix(text("issuer_dn"), "CN=") || text("serial") == "" || text("not_after") == "" {
				t.Errorf("the certificate is not named in %v", line)
			}
		})
	}
}

// The log has a served host as the configuration has it, and the path only if no route matches, or as log.paths
// says. It never has a query or a fragment.
func TestHostAndPathInTheLog(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	for paths, want := range map[config.LogPaths][]string{
		config.LogUnmatchedPaths: {"", "/elsewhere/7", "/accounts//7", "/elsewhere", "/x", "/", "/", "/x", "/elsewhere"},
		config.LogAllPaths:       {"/accounts/7", "/elsewhere/7", "/accounts//7", "/elsewhere", "/x", "/", "/", "/x", "/elsewhere"},
		config.LogNoPaths:        {"", "", "", "", "", "", "", "", ""},
	} {
		log := &gatetest.Log{}
		s := newHarness(t, upstream.URL, log, func(cfg *config.Config) { cfg.Log.Paths = paths })
		for _, edit := range []func(r *http.Request){
			func(*http.Request) {},
			func(r *http.Request) {
				path(r, "/elsewhere/7")
				r.RequestURI += "?secret=1"
				r.URL.RawQuery = "secret=1"
			},
			func(r *http.Request) { r.Host = "API.example.test:8443"; r.RequestURI = "/accounts//7?secret=1" },
			func(r *http.Request) { r.RequestURI = "/elsewhere%3fsecret=1" },
			func(r *http.Request) {
				r.Host = "other.test\n" + strings.Repeat("x", 1000)
				r.RequestURI = "https://other.test/x?secret=1"
			},
			func(r *http.Request) { r.RequestURI = "https://api.example.test?to=/secret" },
			func(r *http.Request) { r.RequestURI = "https://api.example.test#to=/secret" },
			func(r *http.Request) { r.RequestURI = "https://api.example.test/x#access_token=secret" },
			func(r *http.Request) { r.RequestURI = "/elsewhere%253Fsecret=1" },
		} {
			r := s.request()
			edit(r)
			s.proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "a=b") {
			t.Errorf("paths: %s: the log has a query:\n%s", paths, log)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != len(want) {
			t.Fatalf("paths: %s: %d lines, want %d", paths, len(lines), len(want))
		}
		for i, text := range lines {
			var line struct{ Host, Path string }
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
			if line.Path != want[i] {
				t.Errorf("paths: %s: line %d has the path %q, want %q", paths, i, line.Path, want[i])
			}
			if served := i < 4; served && line.Host != "api.example.test" || !served && len(line.Host) > 300 {
				t.Errorf("line %d has the host %q", i, line.Host)
			}
		}
	}
}
