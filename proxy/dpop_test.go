package proxy

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/mtls"
)

// either makes the API take tokens that are bound to keys too.
func either(cfg *config.Config) { cfg.APIs[0].Binding = config.BoundToEither }

// behindProxy makes a front proxy at 192.0.2.1 pass certificates.
func behindProxy(forwardedHost bool) func(*config.Config) {
	return func(cfg *config.Config) {
		c := &cfg.Listener.ClientCertificates
		c.From, c.Header = config.FromHeader, &config.CertificateHeader{
			Formats: []config.HeaderFormat{config.FormatRFC9440}, ForwardedHost: forwardedHost,
			TrustedProxies: config.TrustedProxies{Addresses: []config.Network{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}}},
		}
	}
}

// prove makes r a request with a token that is bound to a key, and a proof for uri.
func (s *harness) prove(r *http.Request, uri string) {
	key := testpki.NewSigner("ES256", "")
	token := s.mint(s.client, testpki.M{"cnf": testpki.M{"jkt": key.KeyThumbprint()}})
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", key.Proof(testpki.ProofClaims(r.Method, uri, token)))
}

// RFC 9449 section 4.3: behind a front proxy, htu is compared with X-Forwarded-Host where the
// configuration says so, and from trusted front proxies alone.
func TestProofURIBehindProxy(t *testing.T) {
	const served, public = "https://api.example.test/accounts/7", "https://public.example/accounts/7"
	for _, tt := range []struct {
		name      string
		use       bool
		sender    string
		forwarded []string
		htu       string
		want      string // reason, "" if granted
	}{
		{"no header", true, "192.0.2.1:1", nil, served, ""},
		{"header", true, "192.0.2.1:1", []string{"public.example"}, public, ""},
		{"header with the port of https", true, "192.0.2.1:1", []string{"Public.Example:443"}, public, ""},
		{"header, proof for Host", true, "192.0.2.1:1", []string{"public.example"}, served, "invalid_dpop_proof"},
		{"header of another port", true, "192.0.2.1:1", []string{"public.example:8443"}, public, "invalid_dpop_proof"},
		{"two headers", true, "192.0.2.1:1", []string{"public.example", "public.example"}, public, "invalid_dpop_proof"},
		{"two hosts", true, "192.0.2.1:1", []string{"public.example, api.example.test"}, public, "invalid_dpop_proof"},
		{"empty header", true, "192.0.2.1:1", []string{""}, served, "invalid_dpop_proof"},
		{"a host with a path", true, "192.0.2.1:1", []string{"public.example/accounts"}, public, "invalid_dpop_proof"},
		{"not configured, proof for Host", false, "192.0.2.1:1", []string{"public.example"}, served, ""},
		{"not configured, proof for the header", false, "192.0.2.1:1", []string{"public.example"}, public, "invalid_dpop_proof"},
		{"another sender", true, "192.0.2.2:1", []string{"public.example"}, public, "no_certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newHarness(t, "http://127.0.0.1:1", io.Discard, either, behindProxy(tt.use))
			upstream := &nowhere{}
			s.proxy.upstreams["accounts"].RoundTripper = upstream
			r, w := s.request(), httptest.NewRecorder()
			r = r.WithContext(mtls.ConnContext(r.Context(), peer{address: netip.MustParseAddrPort(tt.sender)}))
			r.TLS.PeerCertificates = nil
			r.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(s.client.Cert.Raw)+":")
			r.Header["X-Forwarded-Host"] = tt.forwarded
			s.prove(r, tt.htu)
			s.proxy.ServeHTTP(w, r)
			if tt.want == "" && w.Code != http.StatusOK || tt.want != "" && !strings.Contains(w.Body.String(), `"reason":"`+tt.want+`"`) {
				t.Errorf("got %d %s, want reason %q", w.Code, w.Body, tt.want)
			}
			if reached := !upstream.reached.IsZero(); reached != (tt.want == "") {
				t.Errorf("the request reached the upstream: %t, want %t", reached, tt.want == "")
			}
		})
	}
}

// A peer is a connection from an address.
type peer struct {
	net.Conn
	address netip.AddrPort
}

func (p peer) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.address) }

// A direct client cannot choose the host of its proof.
func TestForwardedHostOfClient(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard, either)
	r, w := s.request(), httptest.NewRecorder()
	r.Header.Set("X-Forwarded-Host", "public.example")
	s.prove(r, "https://public.example/accounts/7")
	s.proxy.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "invalid_dpop_proof") {
		t.Errorf("got %d %s, want 401 invalid_dpop_proof", w.Code, w.Body)
	}
}

// RFC 9449 section 7.1, RFC 9110 section 11.6.1: the challenges of a host by what its APIs take.
func TestChallenges(t *testing.T) {
	const realm, algs = ` realm="tallygate"`, `, algs="ES256 PS256 EdDSA"`
	entra := func(cfg *config.Config) { cfg.AuthorizationServers[0].Profile = config.ProfileEntra }
	for _, tt := range []struct {
		name  string
		edits []func(*config.Config)
		want  []string
	}{
		{"certificate", nil, []string{"Bearer" + realm}},
		{"either", []func(*config.Config){either}, []string{"Bearer" + realm, "DPoP" + realm + algs}},
		{"dpop", []func(*config.Config){func(cfg *config.Config) { cfg.APIs[0].Binding = config.BoundToKey }}, []string{"DPoP" + realm + algs}},
		{"both", []func(*config.Config){func(cfg *config.Config) { cfg.APIs[0].Binding = config.BoundToBoth }}, []string{"DPoP" + realm + algs}},
		{"Entra", []func(*config.Config){entra}, []string{"Bearer" + realm, "mtls_pop" + realm}},
		{"Entra and either", []func(*config.Config){entra, either}, []string{"Bearer" + realm, "DPoP" + realm + algs, "mtls_pop" + realm}},
	} {
		s := newHarness(t, "http://127.0.0.1:1", io.Discard, tt.edits...)
		for _, path := range []string{"/accounts/7", "/nowhere"} {
			r, w := s.request(), httptest.NewRecorder()
			r.Header.Del("Authorization")
			r.RequestURI, r.URL.Path, r.URL.RawQuery = path, path, ""
			s.proxy.ServeHTTP(w, r)
			if got := w.Header()["Www-Authenticate"]; w.Code != http.StatusUnauthorized || !slices.Equal(got, tt.want) {
				t.Errorf("%s, %s: got %d %q, want 401 %q", tt.name, path, w.Code, got, tt.want)
			}
		}
	}
}

// A stream continues although its proof has been used and is too old, and ends when the token is revoked.
func TestStreamWithProof(t *testing.T) {
	for kind, open := range flows {
		if kind == "tunnel" { // a request in plain text opens a tunnel
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			s := newHarness(t, up.URL, log, withTunnel, either)
			s.proving = testpki.NewSigner("ES256", "")
			s.token = s.mint(s.client, testpki.M{"cnf": testpki.M{"jkt": s.proving.KeyThumbprint()}})
			f := open(t, s, up)
			s.ahead.Store(int64(10 * time.Minute))
			expectOpen(t, s, up, log)
			s.revoked.Store(true)
			expectEnd(t, s, up, log, kind, f, "revoked")
		})
	}
}
