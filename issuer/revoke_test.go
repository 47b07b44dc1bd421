package issuer_test

import (
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

const byLedger = "&client_id=northwind-ledger"

// RFC 7009 sections 2.1 and 2.2, T-AS-09, T-AS-10: tokens of this issuer are revoked at once;
// other tokens get the same response.
func TestRevoke(t *testing.T) {
	s := newHarness(t, "/as")
	fetched := s.granted(s.send(ledger, "POST", "/as/token", form.Clone(), good)).Token
	header := testpki.M{"kid": s.keyID()}
	// Tokens signed by the issuer's key, each with a different fault and a jti of its own.
	ours := &testpki.Signer{Key: s.key.Key, Algorithm: "ES256"}
	claims := func(id string, edit testpki.M) testpki.M {
		c := testpki.M{"jti": id, "aud": []string{audience}}
		maps.Copy(c, edit)
		return testpki.Bound(s.identifier, audience, "northwind-ledger", ledger, c)
	}
	exp := func(d time.Duration) testpki.M { return testpki.M{"exp": time.Now().Add(d).Unix()} }

	tests := []struct {
		id, token, rest string
		revoked         bool
	}{
		{s.verify(fetched).ID, fetched, "", true},
		{"again", ours.Token(claims("again", nil), header), "", true},
		{"good hint", ours.Token(claims("good hint", nil), header), "&token_type_hint=access_token", true},
		{"wrong hint", ours.Token(claims("wrong hint", nil), header), "&token_type_hint=refresh_token", true},
		{"unknown hint", ours.Token(claims("unknown hint", nil), header), "&token_type_hint=%00", true},
		{"expired, within a gate's leeway", ours.Token(claims("expired, within a gate's leeway", exp(-299*time.Second)), header), "", true},

		{"unknown", "unknown", "", false},
		{"garbage", "\x00\xff.\x2e.%", "", false},
		{"dots", strings.Repeat(".", 10_000), "", false},
		{"expired for long", ours.Token(claims("expired for long", exp(-time.Hour)), header), "", false},
		{"without exp", ours.Token(claims("without exp", testpki.M{"exp": nil}), header), "", false},
		{"other key", testpki.NewSigner("ES256", s.keyID()).Token(claims("other key", nil)), "", false},
		{"none", ours.Token(claims("none", nil), header, testpki.M{"alg": "none"}), "", false},
		{"HS256", ours.Token(claims("HS256", nil), header, testpki.M{"alg": "HS256"}), "", false},
		{"other issuer", ours.Token(claims("other issuer", testpki.M{"iss": s.identifier + "/"}), header), "", false},
		{"no issuer", ours.Token(claims("no issuer", testpki.M{"iss": nil}), header), "", false},
		{"other spelling", otherSpelling(ours.Token(claims("other spelling", nil), header)), "", false},
		{"padded", ours.Token(claims("padded", nil), header) + "=", "", false},
	}
	for _, test := range tests {
		s.run(test.id, func(t *testing.T) {
			s.secret(test.token)
			if s.revoked(test.id) {
				t.Fatal("the token is revoked before the request")
			}
			for range 2 {
				a := s.send(ledger, "POST", "/as/revoke", form.Clone(), "token="+url.QueryEscape(test.token)+byLedger+test.rest)
				if a.status != 200 || a.body != "" {
					t.Errorf("POST /revoke: got %d %s, want 200 without a body", a.status, a.body)
				}
				s.neverStored(a)
				if got := s.revoked(test.id); got != test.revoked {
					t.Errorf("revoked is %t, want %t", got, test.revoked)
				}
			}
			if line := s.lastLine(); line["msg"] != "revocation request" || line["granted"] != true || (line["jti_hash"] != nil) != test.revoked {
				t.Errorf("got log line %v, want a revocation request with its outcome", line)
			}
		})
	}
}

// otherSpelling sets an unused bit of the last character of the signature: 64 bytes are 512
// bits, 86 characters are 516.
func otherSpelling(token string) string {
	last := len(token) - 1
	return token[:last] + string(token[last]+1)
}

// T-AS-09: a token that the client may not revoke stays valid.
func TestRevokeRefused(t *testing.T) {
	s := newHarness(t, "")
	token := s.token().Token
	id := s.verify(token).ID
	tests := []struct {
		name  string
		shown *testpki.Pair
		body  string
		want  string
	}{
		{"by another application of the partner", archive, "token=" + token + "&client_id=northwind-archive", "invalid_grant"},
		{"by another partner", payroll, "token=" + token + "&client_id=southridge-payroll", "invalid_grant"},
		{"in the client's name by another partner", payroll, "token=" + token + byLedger, "invalid_client"},
		{"by nobody", nil, "token=" + token, "invalid_client"},
		{"without client_id", ledger, "token=" + token, "invalid_client"},
		{"without token", ledger, byLedger[1:], "invalid_request"},
		{"empty token", ledger, "token=" + byLedger, "invalid_request"},
		{"two tokens", ledger, "token=" + token + "&token=x" + byLedger, "invalid_request"},
		{"client_secret", ledger, "token=" + token + byLedger + "&client_secret=x", "invalid_request"},
		{"20 KiB and a byte", ledger, "token=" + token + byLedger + "&x=" + strings.Repeat("x", 20<<10+1-len("token=&x=")-len(token)-len(byLedger)), "invalid_request"},
	}
	for _, test := range tests {
		s.run(test.name, func(t *testing.T) {
			s.refused(s.revoke(test.shown, test.body), test.want)
			if s.revoked(id) {
				t.Fatal("the refused request has revoked the token")
			}
			if line := s.lastLine(); line["msg"] != "revocation request" || line["granted"] != false || line["error_code"] != test.want {
				t.Errorf("got log line %v, want a revocation request with its outcome", line)
			}
		})
	}
	s.refused(s.send(ledger, "POST", "/revoke?token="+token, form.Clone(), byLedger[1:]), "invalid_request")
	s.refused(s.send(ledger, "GET", "/revoke?token="+token, nil, ""), "method_not_allowed")
	if s.revoked(id) {
		t.Fatal("the refused request has revoked the token")
	}
	renewed := northCA.Leaf("ledger", testpki.DNS("ledger.northwind.example"))
	if a := s.revoke(renewed, "token="+token+byLedger); a.status != 200 || !s.revoked(id) {
		t.Errorf("POST /revoke with a renewed certificate: got %d %s, want 200 and a revoked token", a.status, a.body)
	}
}

// T-AS-10: a token is revoked when the response arrives, also under concurrent revocations and
// requests.
func TestRevokedAtOnce(t *testing.T) {
	s := newHarness(t, "")
	var wg sync.WaitGroup
	for range 8 {
		c := s.client(ledger)
		wg.Go(func() {
			for range 20 {
				token := s.granted(s.sendBy(c, "POST", s.url+"/token", form.Clone(), good)).Token
				id := s.verify(token).ID
				if s.revoked(id) {
					t.Error("the token is revoked before the request")
				}
				s.sendBy(c, "POST", s.url+"/revoke", form.Clone(), "token="+token+byLedger)
				if !s.revoked(id) {
					t.Error("the token is not revoked after the response")
				}
			}
		})
	}
	wg.Wait()
}

// A revocation is kept after exp for more than the longest leeway of a gate, 5 min, and is then
// removed.
func TestRevocationRetention(t *testing.T) {
	s := newHarness(t, "")
	token := s.token().Token
	id := s.verify(token).ID
	s.revoke(ledger, "token="+token+byLedger)
	for _, step := range []struct {
		passed time.Duration
		want   bool
	}{
		{lifetime - time.Second, true},
		{lifetime + 5*time.Minute + 30*time.Second, true},
		{lifetime + 11*time.Minute, false},
	} {
		s.clock.Store(int64(step.passed))
		s.issuer.Sweep(t.Context())
		if got := s.revoked(id); got != step.want {
			t.Errorf("after %v: revoked is %t, want %t", step.passed, got, step.want)
		}
	}
	if a := s.revoke(ledger, "token="+token+byLedger); a.status != 200 || s.revoked(id) {
		t.Errorf("POST /revoke of a token past its retention: got %d %s, want 200 and no revocation", a.status, a.body)
	}
}
