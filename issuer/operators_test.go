package issuer_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer"
)

// The certificates of operators.
var (
	anna = operationsCA.Leaf("anna", testpki.DNS("anna.operations.example"))
	bert = operationsCA.Leaf("bert", testpki.DNS("bert.operations.example"))
)

// withOperators is an edit with an operator anna, who may do everything, and an operator bert, who may only read.
func withOperators(cfg *config.Config) {
	cfg.Issuer.Operators = []config.Operator{
		{Name: "anna", Certificate: config.RegisteredCertificate{SANDNS: "anna.operations.example"}, Permissions: []config.Permission{config.PermissionRevoke, config.PermissionRead}},
		{Name: "bert", Certificate: config.RegisteredCertificate{Thumbprints: []access.Thumbprint{access.ThumbprintOf(bert.Cert)}}, Permissions: []config.Permission{config.PermissionRead}},
	}
}

var jsonBody = http.Header{"Content-Type": {"application/json"}}

// operate sends a revocation request over mutual TLS.
func (s *harness) operate(pair *testpki.Pair, body string) answer {
	s.t.Helper()
	return s.send(pair, "POST", "/operator/revocations", jsonBody.Clone(), body)
}

// recorded returns the list that anna gets.
func (s *harness) recorded(query string) (list issuer.RevocationList) {
	s.t.Helper()
	a := s.send(anna, "GET", "/operator/revocations"+query, nil, "")
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != http.StatusOK {
		s.t.Fatalf("GET revocations%s: got %d %s, %v", query, a.status, a.body, err)
	}
	s.neverStored(a)
	return list
}

// An operator revokes over mutual TLS, and the audit record has the operator's name and the reason. The log has them
// too, and never the token.
func TestOperatorEndpoint(t *testing.T) {
	onEachState(t, func(t *testing.T, state func(*config.Config)) {
		s := newHarness(t, "", withOperators, state)
		began := time.Now().Add(-time.Second)
		token := s.token().Token
		for _, request := range []issuer.RevocationRequest{
			{Token: token, Reason: "leaked in a log"}, {Application: "northwind-archive"}, {Partner: "southridge", Reason: "contract ended"},
			{Thumbprint: ledger.Thumbprint(), Reason: "key stolen at 02:00, INC-4711"},
		} {
			body, err := json.Marshal(request)
			if err != nil {
				t.Fatal(err)
			}
			a := s.operate(anna, string(body))
			if a.status != http.StatusOK || !strings.HasPrefix(a.body, `{"done":"revoked `) {
				t.Errorf("POST %s: got %d %s, want 200 and what was done", body, a.status, a.body)
			}
			s.neverStored(a)
			line := s.lastLine()
			if line["msg"] != "operator request" || line["actor"] != "operator:anna" || line["granted"] != true || line["thumbprint"] != anna.Thumbprint() || line["remote"] != "127.0.0.1" || line["done"] == nil {
				t.Errorf("the log has %v, want the operator and what was done", line)
			}
			if got, _ := line["revocation_reason"].(string); got != request.Reason {
				t.Errorf("the log has reason %q, want %q", got, request.Reason)
			}
		}
		s.refused(s.ask(ledger, good), "invalid_client")
		want := []struct{ kind, subject, reason string }{ // newest first; a partner is also revoked as its applications
			{"certificate", ledger.Thumbprint(), "key stolen at 02:00, INC-4711"}, {"partner", "southridge", "contract ended"},
			{"application", "southridge-payroll", "contract ended"}, {"application", "northwind-archive", ""}, {"token", "", "leaked in a log"},
		}
		list := s.recorded("")
		if len(list.Revocations) != len(want) || list.Next != 0 || list.Newest != list.Revocations[0].Number {
			t.Fatalf("the list is %+v, want %d records", list, len(want))
		}
		for i, r := range list.Revocations {
			if r.Kind != want[i].kind || want[i].subject != "" && r.Subject != want[i].subject || r.Reason != want[i].reason || r.Actor != "operator:anna" ||
				r.Time.Before(began) || r.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("record %d is %+v, want %+v by operator:anna now", i, r, want[i])
			}
		}
		if hash := list.Revocations[4].Subject; len(hash) != 16 {
			t.Errorf("the subject of a token is %q, want its jti_hash of 16 characters", hash)
		}
		if got := list.InForce; got["application"] != 2 || got["partner"] != 1 || got["certificate"] != 1 || got["token"] != 1 {
			t.Errorf("in force are %v, want 2 applications, a partner, a certificate and a token", got)
		}
		page := s.recorded("?limit=2")
		rest := s.recorded("?limit=1000&kind=application&before=" + number(page.Next))
		if len(page.Revocations) != 2 || len(rest.Revocations) != 2 || rest.Revocations[1].Subject != "northwind-archive" || rest.Next != 0 {
			t.Errorf("in pages: got %+v and %+v, want 2 records and then the applications", page, rest)
		}
		if after := s.recorded("?wait=true&after=" + number(list.Revocations[2].Number)); len(after.Revocations) != 2 {
			t.Errorf("after the third record: got %+v, want 2 records", after.Revocations)
		}
	})
}

// A client that is not an operator gets the same 401 for every path and method below /operator/, an operator without the
// permission 403, and neither changes anything.
func TestOperatorEndpointRefuses(t *testing.T) {
	s := newHarness(t, "", withOperators)
	token := s.token().Token
	body := `{"partner":"northwind"}`
	imposter := imposterCA.Leaf("anna", testpki.DNS("anna.operations.example"))
	partners := northCA.Leaf("anna", testpki.DNS("anna.operations.example", "ledger.northwind.example"))
	other := operationsCA.Leaf("anna", testpki.DNS("anne.operations.example"))
	renewed := operationsCA.Leaf("bert", testpki.DNS("bert.operations.example")) // bert is registered by thumbprint
	for name, pair := range map[string]*testpki.Pair{"no certificate": nil, "a partner's": ledger, "a partner's with the operator's name": partners,
		"an unknown authority": imposter, "another name": other, "another thumbprint": renewed, "a resource server's": accounts} {
		for _, path := range []string{"/operator/revocations", "/operator/", "/operator/keys", "/operator/revocations/x"} {
			for _, method := range []string{"POST", "GET", "DELETE"} {
				a := s.send(pair, method, path, jsonBody.Clone(), body)
				s.refused(a, "invalid_client")
				if a.header.Get("Allow") != "" || t.Failed() {
					t.Fatalf("%s: %s %s: the headers are %v", name, method, path, a.header)
				}
			}
		}
	}
	s.refused(s.operate(bert, body), "insufficient_permission")
	if line := s.lastLine(); line["actor"] != "operator:bert" || line["error_code"] != "insufficient_permission" {
		t.Errorf("the log has %v, want bert and the refusal", line)
	}
	s.refused(s.send(anna, "GET", "/operator/keys", nil, ""), "not_found")
	s.refused(s.send(anna, "DELETE", "/operator/revocations", nil, ""), "method_not_allowed")
	refused := map[string]string{
		`{}`: "malformed_operation", `{"partner":"northwind","application":"northwind-ledger"}`: "malformed_operation",
		`{"partner":"northwind","actor":"operator:bert"}`: "malformed_operation", `{"Partner":"northwind"}`: "malformed_operation",
		`{"partner":"northwind","partner":"southridge"}`: "malformed_operation", `{"partner":"northwind"} x`: "malformed_operation",
		`{"partner":"northwind","reason":"` + strings.Repeat("x", 21<<10) + `"}`: "malformed_operation", `{"partner":1}`: "malformed_operation", ``: "malformed_operation",
		`{"partner":"northwnd"}`: "unknown_partner", `{"application":"northwind-leger"}`: "unknown_application", `{"thumbprint":"x"}`: "invalid_thumbprint",
		`{"partner":"northwind","reason":"` + strings.Repeat("x", 201) + `"}`: "invalid_reason", `{"partner":"northwind","reason":"a\u001b[2Jb"}`: "invalid_reason",
		`{"partner":"northwind","reason":"a\u202eb"}`: "invalid_reason",
	}
	for body, want := range refused {
		s.refused(s.operate(anna, body), want)
	}
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded"} { // a browser sends these types for forms of any site
		s.refused(s.send(anna, "POST", "/operator/revocations", http.Header{"Content-Type": {contentType}}, body), "malformed_operation")
	}
	s.refused(s.send(anna, "POST", "/operator/revocations?x=1", jsonBody.Clone(), body), "malformed_operation")
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?kind=x", "?before=-1", "?x=1", "?limit=1&limit=2", "?%zz"} {
		s.refused(s.send(anna, "GET", "/operator/revocations"+query, nil, ""), "malformed_operation")
	}
	if list := s.recorded(""); len(list.Revocations) != 0 || list.InForce["partner"] != 0 {
		t.Errorf("the refused requests left %+v, want nothing", list)
	}
	if s.introspect(accounts, "accounts-api", token).body == inactive {
		t.Error("a refused request revoked the token")
	}
}

// An operator with a revoked certificate gets 401 invalid_client. Without issuer.operators the endpoint does not
// exist.
func TestRevokedOperator(t *testing.T) {
	s := newHarness(t, "", withOperators)
	if a := s.operate(anna, `{"thumbprint":"`+anna.Thumbprint()+`","reason":"laptop lost"}`); a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	s.refused(s.operate(anna, `{"partner":"northwind"}`), "invalid_client")
	if line := s.lastLine(); line["reason"] != "revoked_certificate" {
		t.Errorf("the log has %v, want reason revoked_certificate", line)
	}
	s.refused(s.send(anna, "GET", "/operator/revocations", nil, ""), "invalid_client")
	without := newHarness(t, "")
	without.refused(without.operate(anna, `{"partner":"northwind"}`), "not_found")
}

// A certificate that belongs to two operators is refused, because the audit record could name the wrong
// operator.
func TestCertificateOfTwoOperators(t *testing.T) {
	s := newHarness(t, "", withOperators, func(cfg *config.Config) {
		cfg.Issuer.Operators[1].Certificate.Thumbprints = []access.Thumbprint{access.ThumbprintOf(anna.Cert)}
	})
	s.refused(s.operate(anna, `{"partner":"northwind"}`), "invalid_client")
	if line := s.lastLine(); !strings.Contains(line["error"].(string), "the operators anna and bert") {
		t.Errorf("the log has %v, want both names", line)
	}
}

// The rate limit of an address applies before the check of the certificate.
func TestOperatorRate(t *testing.T) {
	s := newHarness(t, "", withOperators, func(cfg *config.Config) { cfg.Issuer.Limits.PerAddress = config.Rate{RequestsPerSecond: 1, Burst: 2} })
	s.refused(s.operate(ledger, `{}`), "invalid_client")
	s.refused(s.operate(anna, `{}`), "malformed_operation")
	s.refused(s.operate(anna, `{"partner":"northwind"}`), "too_many_requests")
}

// An audit record that was acknowledged is there after a restart.
func TestAuditAfterRestart(t *testing.T) {
	keep := sameIssuer()
	s := newHarness(t, "", keep, withOperators)
	if a := s.operate(anna, `{"partner":"northwind","reason":"r"}`); a.status != http.StatusOK {
		t.Fatal(a)
	}
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	again := newHarness(t, "", keep, withOperators)
	if list := again.recorded("?kind=partner"); len(list.Revocations) != 1 || list.Revocations[0].Actor != "operator:anna" || list.Revocations[0].Reason != "r" {
		t.Errorf("after a restart: got %+v, want the record", list)
	}
}

// onEachState runs test with an issuer whose state is in a folder, and with an issuer whose state is in a
// database.
func onEachState(t *testing.T, test func(*testing.T, func(*config.Config))) {
	t.Run("folder", func(t *testing.T) { test(t, func(*config.Config) {}) })
	t.Run("database", func(t *testing.T) { test(t, onDatabase(t, testpostgres.Start(t))) })
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
