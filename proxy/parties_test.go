package proxy

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A refusal counts for the partner whose certificate came, and its line names both sides. Nothing reaches the
// upstream.
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
			count := s.metrics.decisions.WithLabelValues(c.partner, "accounts", outcome(c.reason), c.reason.String())
			before := testutil.ToFloat64(count)
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
			if n := testutil.ToFloat64(count) - before; n != 1 {
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
