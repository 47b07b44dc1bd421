package issuer_test

import (
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
)

// RFC 8705 section 2.1, T-AS-01: all refusals get the same response. Only the log has the reason.
func TestClientAuthentication(t *testing.T) {
	dns := testpki.DNS("ledger.northwind.example")
	north := northCA.Intermediate("Northwind Issuing CA")
	const ok = access.Granted

	tests := []struct {
		name     string
		shown    *testpki.Pair
		clientID string
		want     access.Reason
	}{
		{"its certificate", ledger, "northwind-ledger", ok},
		{"a renewed one of the same name", northCA.Leaf("ledger", dns), "northwind-ledger", ok},
		{"through an intermediate", north.Leaf("ledger", dns), "northwind-ledger", ok},
		{"one of several names, in capitals", northCA.Leaf("x", testpki.DNS("a.example", "LEDGER.Northwind.example")), "northwind-ledger", ok},

		{"no certificate", nil, "northwind-ledger", access.NoCertificate},
		{"no certificate, no such client", nil, "nobody", access.NoCertificate},
		{"no client_id (RFC 8705 s2)", ledger, "", access.UnknownClient},
		{"no such client", ledger, "nobody", access.UnknownClient},
		{"client_id in other case", ledger, "Northwind-Ledger", access.UnknownClient},
		{"client_id with a space", ledger, "northwind-ledger ", access.UnknownClient},
		{"another application of the partner", archive, "northwind-ledger", access.CertificateNotRegistered},
		{"another partner's certificate", payroll, "northwind-ledger", access.UntrustedCertificate},
		{"its own for another partner's client", ledger, "southridge-payroll", access.UntrustedCertificate},
		{"the name under another partner's authority", southCA.Leaf("ledger", dns), "northwind-ledger", access.UntrustedCertificate},
		{"the name under an authority of the same name", imposterCA.Leaf("ledger", dns), "northwind-ledger", access.UntrustedCertificate},
		{"the name, self-signed", testpki.SelfSigned("ledger", dns), "northwind-ledger", access.UntrustedCertificate},
		{"the name as common name only", northCA.Leaf("ledger.northwind.example"), "northwind-ledger", access.CertificateNotRegistered},
		{"a wildcard that would cover the name", northCA.Leaf("w", testpki.DNS("*.northwind.example")), "northwind-ledger", access.CertificateNotRegistered},
		{"the name in the intermediate, not the leaf", northCA.Intermediate("i", dns).Leaf("x"), "northwind-ledger", access.CertificateNotRegistered},
		{"no name registered, but the thumbprint", ledger, "northwind-pinned", access.CertificateNotRegistered},
		{"another authentication method", ledger, "northwind-method", access.UnknownClient},
		{"a disabled partner", shutdown, "shut-app", access.PartnerDisabled},
		{"a partner without anchors", northCA.Leaf("r", testpki.DNS("app.rootless.example")), "rootless-app", access.UntrustedCertificate},
		{"a partner without anchors, self-signed", testpki.SelfSigned("r", testpki.DNS("app.rootless.example")), "rootless-app", access.UntrustedCertificate},
	}
	s := newHarness(t, "")
	token := s.token().Token
	var first answer
	for _, test := range tests {
		s.run(test.name, func(t *testing.T) {
			before := s.lines()
			a := s.ask(test.shown, "grant_type=client_credentials&client_id="+test.clientID)
			line := s.lastLine()
			if got := s.lines() - before; got != 1 || line["msg"] != "token request" || line["granted"] != (test.want == ok) {
				t.Errorf("got %d log lines, the last %v; want one", got, line)
			}
			if test.want == ok {
				p := s.verify(s.granted(a).Token)
				if got := p.Confirmation["x5t#S256"]; got != test.shown.Thumbprint() {
					t.Errorf("the token is bound to %s, want %s", got, test.shown.Thumbprint())
				}
				return
			}
			s.refused(a, "invalid_client")
			if line["reason"] != test.want.String() {
				t.Errorf("the logged reason is %v, want %v", line["reason"], test.want)
			}
			if first.status == 0 {
				first = a
			}
			if diff := cmp.Diff(first, a, cmp.AllowUnexported(answer{})); diff != "" {
				t.Errorf("the responses to two refusals differ:\n%s", diff)
			}
			// The revocation endpoint authenticates clients in the same way.
			s.refused(s.revoke(test.shown, "token="+token+"&client_id="+test.clientID), "invalid_client")
			if s.revoked(s.verify(token).ID) {
				t.Fatal("a refused client has revoked the token")
			}
		})
	}
}

// RFC 8705 section 2.1.2: names are compared by structure. A refused name is logged as read from
// the certificate, and not sent.
func TestSubjectDN(t *testing.T) {
	registered, err := certname.ParseDN(`CN=ledger,OU=Back\, Office,O=Northwind`)
	if err != nil {
		t.Fatal(err)
	}
	s := newHarness(t, "", func(c *config.Config) {
		c.Partners.List[0].Applications[0].Certificate = config.RegisteredCertificate{SubjectDN: registered}
	})
	subject := func(unit string) testpki.Option {
		return testpki.Subject(pkix.Name{CommonName: "ledger", OrganizationalUnit: []string{unit}, Organization: []string{"Northwind"}})
	}
	const body = "grant_type=client_credentials&client_id=northwind-ledger"
	s.granted(s.ask(northCA.Leaf("", subject("Back, Office")), body))

	s.refused(s.ask(northCA.Leaf("", subject("Front\n\x1b[2J"), testpki.DNS("a.example", "b.example")), body), "invalid_client")
	line := s.lastLine()
	want := map[string]any{"reason": "certificate_not_registered", "subject_dn": "CN=ledger,OU=Front\\0a\\1b[2J,O=Northwind", "san_dns": "a.example b.example"}
	got := map[string]any{"reason": line["reason"], "subject_dn": line["subject_dn"], "san_dns": line["san_dns"]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A certificate with an unknown status gets neither a token nor invalid_client, and any other
// error of the certificate means no token.
func TestJudgedCertificate(t *testing.T) {
	deny := func(r access.Reason) error { return &access.Denial{Reason: r} }
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"neither certificate nor error", nil, "invalid_client"},
		{"expired", deny(access.ExpiredCertificate), "invalid_client"},
		{"revoked", deny(access.RevokedCertificate), "invalid_client"},
		{"revocation unknown", deny(access.RevocationUnknown), "temporarily_unavailable"},
		{"a denial that grants", deny(access.Granted), "server_error"},
		{"no denial", errors.New("a bug"), "server_error"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newHarness(t, "")
			s.certificate = func(*http.Request) (*access.Certificate, error) { return nil, test.err }
			a := s.ask(ledger, "grant_type=client_credentials&client_id=northwind-ledger")
			s.refused(a, test.want)
			if retry := a.header.Get("Retry-After"); (retry != "") != (test.want == "temporarily_unavailable") {
				t.Errorf("Retry-After is %q, want it with temporarily_unavailable only", retry)
			}
		})
	}
}

// A certificate for server authentication alone authenticates only a client that lists server_auth.
func TestServerOnlyCertificate(t *testing.T) {
	s := newHarness(t, "", func(c *config.Config) {
		c.Partners.List[0].Applications[1].Usages = []config.CertificateUsage{config.UsageClientAuth, config.UsageServerAuth}
	})
	s.certificate = func(r *http.Request) (*access.Certificate, error) {
		c, err := checkCertificate(r)
		if c != nil {
			c.ServerOnly = true
		}
		return c, err
	}
	s.refused(s.ask(ledger, "grant_type=client_credentials&client_id=northwind-ledger"), "invalid_client")
	if got, want := s.lastLine()["reason"], "wrong_usage"; got != want {
		t.Errorf("reason in the log: got %v, want %s", got, want)
	}
	s.granted(s.ask(northCA.Leaf("archive", testpki.DNS("archive.northwind.example")), "grant_type=client_credentials&client_id=northwind-archive"))
}
