package proxy

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/testpki"
)

// TestRefusalsBeginWithTheDecision combines faults of every stage. Refusals and Decide must not drift
// apart: a granted request has no refusals, the first refusal is the decision, and with a certificate
// and a token that differ in one fault alone, that fault is the only refusal.
func TestRefusalsBeginWithTheDecision(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", new(bytes.Buffer))
	other := testpki.NewCA("Borealis Root").Leaf("sync")
	certificates := map[string]*testpki.Pair{
		"": s.client, "no_certificate": nil, "untrusted_certificate": other, "expired_certificate": s.ca.Leaf("ledger", testpki.Expired()),
	}
	claims := map[string]testpki.M{
		"": nil, "no_token": nil, "malformed_token": nil, "bad_signature": nil, "bound_to_other": nil,
		"expired": {"exp": 1}, "wrong_audience": {"aud": "x"}, "insufficient_scope": {"scope": "x"}, "unknown_client": {"client_id": "x"},
		"unknown_issuer": {"iss": "https://evil.example"}, "not_bound": {"cnf": nil},
	}
	targets := map[string]func(*http.Request){
		"":                    func(*http.Request) {},
		"misdirected":         func(r *http.Request) { r.Host = "other.example.test" },
		"path_not_canonical":  func(r *http.Request) { r.URL.Path, r.RequestURI = "//accounts/7", "//accounts/7?a=b" },
		"api_not_allowed":     func(r *http.Request) { r.URL.Path, r.RequestURI = "/nowhere", "/nowhere?a=b" },
		"body_not_allowed":    func(r *http.Request) { r.ContentLength = 1 },
		"body_too_large":      func(r *http.Request) { r.Method, r.ContentLength = http.MethodPost, 1<<40 },
		"upgrade_not_allowed": func(r *http.Request) { r.Header.Set("Upgrade", "h2c") },
		"malformed_request":   func(r *http.Request) { r.ProtoMinor = 2 },
	}
	for certificate, pair := range certificates {
		for token, edits := range claims {
			for target, edit := range targets {
				r := s.request()
				edit(r)
				bound := s.client
				if r.TLS.PeerCertificates = nil; pair != nil {
					bound, r.TLS.PeerCertificates = pair, []*x509.Certificate{pair.Cert}
				}
				raw := s.mint(bound, edits)
				switch token {
				case "malformed_token":
					raw = "a.b.c"
				case "bad_signature":
					raw = raw[:strings.LastIndexByte(raw, '.')+1] + strings.Repeat("A", 86) // 64 bytes
				case "bound_to_other":
					raw = s.mint(s.ca.Leaf("renewed"), edits)
				}
				r.Header["Authorization"] = []string{"Bearer " + raw}
				if token == "no_token" {
					delete(r.Header, "Authorization")
				}
				name := fmt.Sprintf("certificate %q, token %q, target %q", certificate, token, target)
				c := authorize.Checked{Checks: s.proxy.checks, Request: r}
				c.Decide(nil)
				refused, _ := s.proxy.checks.Refusals(r)
				checkRefusals(t, name, c.Decision, refused, []string{target, certificate, token})
			}
		}
	}
}

// checkRefusals compares refused with decision and with the faults of the request.
func checkRefusals(t *testing.T, name string, decision access.Decision, refused []access.Decision, faults []string) {
	t.Helper()
	first := access.Granted
	if len(refused) > 0 {
		first = refused[0].Reason
	}
	if first != decision.Reason {
		t.Errorf("%s: the first refusal is %s, want the decision %s", name, first, decision.Reason)
	}
	count, fault := 0, ""
	for _, f := range faults {
		if f != "" {
			count, fault = count+1, f
		}
	}
	if count == 1 && (len(refused) != 1 || refused[0].Reason.String() != fault) {
		t.Errorf("%s: got the refusals %v, want %s alone", name, reasonsOf(refused), fault)
	}
	if count > 1 && len(refused) == 0 {
		t.Errorf("%s: no refusals", name)
	}
}

func reasonsOf(refused []access.Decision) (reasons []access.Reason) {
	for _, d := range refused {
		reasons = append(reasons, d.Reason)
	}
	return reasons
}
