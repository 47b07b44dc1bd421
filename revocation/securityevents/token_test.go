package securityevents

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/revocation"
)

// One line for each rule of RFC 8417 sections 2.2 and 2.3 and of this receiver. A refused token has no revocations.
func TestToken(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	now := time.Now()
	other := testpki.NewSigner("ES256", "k1")
	for _, c := range []struct {
		name string
		raw  string
		want code // "" for a token that is accepted
	}{
		{"an event", s.sign(revoked("1")), ""},
		{"long form of typ", s.sign(revoked("1"), M{"typ": "application/secevent+jwt"}), ""},
		{"an audience in a list", s.sign(revoked("1", M{"aud": []string{"https://other.example", audience}})), ""},
		{"an exp in the past has no meaning", s.sign(revoked("1", M{"exp": now.Add(-time.Hour).Unix()})), ""},
		{"an old event", s.sign(revoked("1", M{"iat": now.Add(-240 * time.Hour).Unix()})), ""},
		{"ahead within the leeway", s.sign(revoked("1", M{"iat": now.Add(20 * time.Second).Unix()})), ""},
		{"an access token", s.key.Token(revoked("1")), invalidRequest},
		{"typ JWT", s.sign(revoked("1"), M{"typ": "JWT"}), invalidRequest},
		{"no typ", s.sign(revoked("1"), M{"typ": nil}), invalidRequest},
		{"a logout token", s.sign(revoked("1"), M{"typ": "logout+jwt"}), invalidRequest},
		{"another key", other.Token(revoked("1"), M{"typ": "secevent+jwt"}), invalidKey},
		{"an unknown kid", s.sign(revoked("1"), M{"kid": "k2"}), invalidKey},
		{"alg none", s.sign(revoked("1"), M{"alg": "none"}), invalidKey},
		{"an algorithm that is not configured", testpki.NewSigner("RS256", "k1").Token(revoked("1"), M{"typ": "secevent+jwt"}), invalidKey},
		{"crit", s.sign(revoked("1"), M{"crit": []string{"x"}}), invalidRequest},
		{"another issuer", s.sign(revoked("1", M{"iss": "https://evil.example"})), invalidIssuer},
		{"the issuer with a slash", s.sign(revoked("1", M{"iss": gatetest.Issuer + "/"})), invalidIssuer},
		{"no issuer", s.sign(revoked("1", M{"iss": nil})), invalidIssuer},
		{"another audience", s.sign(revoked("1", M{"aud": "https://other.example"})), invalidAudience},
		{"the audience of access tokens", s.sign(revoked("1", M{"aud": "https://api.example"})), invalidAudience},
		{"no audience", s.sign(revoked("1", M{"aud": nil})), invalidAudience},
		{"an audience that is an object", s.sign(revoked("1", M{"aud": M{"x": audience}})), invalidAudience},
		{"no iat", s.sign(revoked("1", M{"iat": nil})), invalidRequest},
		{"iat as text", s.sign(revoked("1", M{"iat": "1"})), invalidRequest},
		{"in the future", s.sign(revoked("1", M{"iat": now.Add(time.Hour).Unix()})), invalidRequest},
		{"no jti", s.sign(revoked("1", M{"jti": nil})), invalidRequest},
		{"jti a number", s.sign(revoked("1", M{"jti": 1})), invalidRequest},
		{"an empty jti", s.sign(revoked("")), invalidRequest},
		{"a long jti", s.sign(revoked(strings.Repeat("x", maxText+1))), invalidRequest},
		{"no events", s.sign(revoked("1", M{"events": nil})), invalidRequest},
		{"events empty", s.sign(revoked("1", M{"events": M{}})), invalidRequest},
		{"events a list", s.sign(revoked("1", M{"events": []string{}})), invalidRequest},
		{"many events", s.sign(revoked("1", M{"events": manyEvents()})), invalidRequest},
		{"an event that is no object", s.sign(revoked("1", M{"events": M{caep + "session-revoked": 1}})), invalidRequest},
		{"deep", s.sign(revoked("1", M{"x": json.RawMessage(strings.Repeat("[", 40) + strings.Repeat("]", 40))})), invalidRequest},
		{"long", s.sign(revoked("1", M{"x": strings.Repeat("x", maxToken)})), invalidRequest},
		{"two iss", s.key.Sign([]byte(`{"alg":"ES256","kid":"k1","typ":"secevent+jwt"}`), []byte(`{"iss":"https://evil.example","iss":"`+gatetest.Issuer+`"}`)), invalidRequest},
		{"not a JWT", "revoke everything", invalidRequest},
		{"empty", "", invalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := r.verify(t.Context(), c.raw)
			f, refused := isFault(err)
			if err != nil && !refused {
				t.Fatal(err)
			}
			if c.want == "" && (refused || len(got.entries) != 1 || got.result != applied) {
				t.Errorf("verify = %+v, %v; want one revocation", got, err)
			}
			if c.want != "" && (!refused || f.code != c.want) {
				t.Errorf("verify = %+v, %v; want %s", got, err, c.want)
			}
		})
	}
}

func manyEvents() M {
	events := M{}
	for i := range maxEvents + 1 {
		events[fmt.Sprint(caep, "session-revoked-", i)] = M{}
	}
	return events
}

// Which event types revoke, and until when: the latest of iat, toe and event_timestamp that is not in the future.
func TestEvents(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	now := time.Now()
	r.now = func() time.Time { return now }
	iat := now.Add(-time.Hour).Truncate(time.Second)
	at := func(d time.Duration) int64 { return iat.Add(d).Unix() }
	for _, c := range []struct {
		name   string
		claims M
		until  time.Duration // after iat; negative: nothing is revoked
		result result
	}{
		{"session-revoked", M{"events": M{caep + "session-revoked": M{}}}, 0, applied},
		{"account-disabled", M{"events": M{risc + "account-disabled": M{"reason": "hijacking"}}}, 0, applied},
		{"account-purged", M{"events": M{risc + "account-purged": M{}}}, 0, applied},
		{"sessions-revoked", M{"events": M{risc + "sessions-revoked": M{}}}, 0, applied},
		{"a revoked credential", M{"events": M{caep + "credential-change": M{"change_type": "revoke", "credential_type": "x509"}}}, 0, applied},
		{"a deleted credential", M{"events": M{caep + "credential-change": M{"change_type": "delete"}}}, 0, applied},
		{"a new credential", M{"events": M{caep + "credential-change": M{"change_type": "create"}}}, -1, ignored},
		{"a changed password", M{"events": M{caep + "credential-change": M{"change_type": "update"}}}, -1, ignored},
		{"account-enabled", M{"events": M{risc + "account-enabled": M{}}}, -1, ignored},
		{"an unknown event", M{"events": M{"https://evil.example/session-revoked": M{}}}, -1, ignored},
		{"an unknown event without a subject", M{"sub_id": nil, "events": M{"https://other.example/x": nil}}, -1, ignored},
		{"verification", M{"sub_id": M{"format": "opaque", "id": "stream"}, "events": M{ssf + "verification": M{"state": "x"}}}, -1, verified},
		{"stream-updated", M{"sub_id": M{"format": "opaque", "id": "stream"}, "events": M{ssf + "stream-updated": M{"status": "paused"}}}, -1, ignored},
		{"with an unknown event", M{"events": M{caep + "session-revoked": M{}, caep + "token-claims-change": M{}}}, 0, applied},
		{"event_timestamp later", M{"events": M{caep + "session-revoked": M{"event_timestamp": at(time.Minute)}}}, time.Minute, applied},
		{"event_timestamp earlier", M{"events": M{caep + "session-revoked": M{"event_timestamp": at(-time.Minute)}}}, 0, applied},
		{"event_timestamp in milliseconds", M{"events": M{caep + "session-revoked": M{"event_timestamp": at(0) * 1000}}}, 0, applied},
		{"event_timestamp in the future", M{"events": M{caep + "session-revoked": M{"event_timestamp": at(2 * time.Hour)}}}, 0, applied},
		{"event_timestamp as text", M{"events": M{caep + "session-revoked": M{"event_timestamp": "now"}}}, 0, applied},
		{"toe later", M{"toe": at(time.Minute)}, time.Minute, applied},
		{"toe in the future", M{"toe": at(2 * time.Hour)}, 0, applied},
		{"toe earlier", M{"toe": at(-time.Minute)}, 0, applied},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := r.verify(t.Context(), s.sign(revoked("1", M{"iat": iat.Unix(), "events": M{caep + "session-revoked": M{}}}, c.claims)))
			if err != nil {
				t.Fatal(err)
			}
			var want []revocation.Entry
			if c.until >= 0 {
				issued := iat.Add(c.until)
				want = []revocation.Entry{{
					Kind: revocation.ForeignSubject, Subject: revocation.ForeignSubjectName(gatetest.Issuer, "alice"),
					IssuedBy: issued, Until: now.Add(revocation.ForeignRetention),
				}}
			}
			if diff := cmp.Diff(want, got.entries); diff != "" || got.result != c.result {
				t.Errorf("result %v, want %v; entries (-want +got):\n%s", got.result, c.result, diff)
			}
		})
	}
}

const elsewhere = "https://elsewhere.example"

// What each subject identifier revokes (RFC 9493 section 3, SSF 1.0 section 3). A server can revoke only its own
// subjects and tokens.
func TestSubjects(t *testing.T) {
	s := newTransmitter(t)
	r := s.receiver(t)
	user := func(sub string) M { return M{"format": "iss_sub", "iss": gatetest.Issuer, "sub": sub} }
	token := func(jti string) M { return M{"format": "jwt_id", "iss": gatetest.Issuer, "jti": jti} }
	foreign, email, session := M{"format": "iss_sub", "iss": elsewhere, "sub": "alice"}, M{"format": "email", "email": "alice@example.com"}, M{"format": "opaque", "id": "s1"}
	inEvent := func(event M) M { return M{"sub_id": nil, "events": M{caep + "session-revoked": event}} }
	for _, c := range []struct {
		name   string
		claims M
		want   []string // users, and tokens with "jti:"; nil: refused
	}{
		{"iss_sub", M{"sub_id": user("alice")}, []string{"alice"}},
		{"jwt_id", M{"sub_id": token("t1")}, []string{"jti:t1"}},
		{"aliases", M{"sub_id": M{"format": "aliases", "identifiers": []M{email, user("alice"), token("t1"), foreign}}}, []string{"alice", "jti:t1"}},
		{"complex", M{"sub_id": M{"format": "complex", "user": user("alice"), "session": session, "tenant": M{"format": "opaque", "id": "x"}}}, []string{"alice"}},
		{"complex with aliases", M{"sub_id": M{"format": "complex", "user": M{"format": "aliases", "identifiers": []M{email, user("alice")}}}}, []string{"alice"}},
		{"complex application", M{"sub_id": M{"format": "complex", "application": user("ledger")}}, []string{"ledger"}},
		{"complex session", M{"sub_id": M{"format": "complex", "user": email, "session": token("t1")}}, []string{"jti:t1"}},
		{"in the event", inEvent(M{"subject": user("alice")}), []string{"alice"}},
		{"complex in the event without format", inEvent(M{"subject": M{"user": user("alice"), "session": session}}), []string{"alice"}},
		{"sub_id in the event", inEvent(M{"sub_id": user("alice")}), []string{"alice"}},
		{"iss and sub in the event", inEvent(M{"iss": gatetest.Issuer, "sub": "alice"}), []string{"alice"}},
		{"claim sub", M{"sub_id": nil, "sub": "alice"}, []string{"alice"}},
		{"two places", M{"sub_id": user("alice"), "events": M{caep + "session-revoked": M{"subject": user("bob")}}}, []string{"alice", "bob"}},
		{"no subject", M{"sub_id": nil}, nil},
		{"email", M{"sub_id": email}, nil},
		{"opaque", M{"sub_id": session}, nil},
		{"another server's user", M{"sub_id": foreign}, nil},
		{"another server's token", M{"sub_id": M{"format": "jwt_id", "iss": elsewhere, "jti": "t1"}}, nil},
		{"another server in the event", inEvent(M{"iss": elsewhere, "sub": "alice"}), nil},
		{"another server in one place", M{"sub_id": user("alice"), "events": M{caep + "session-revoked": M{"subject": foreign}}}, nil},
		{"the issuer with a slash", M{"sub_id": M{"format": "iss_sub", "iss": gatetest.Issuer + "/", "sub": "alice"}}, nil},
		{"iss missing", M{"sub_id": M{"format": "iss_sub", "sub": "alice"}}, nil},
		{"sub missing", M{"sub_id": M{"format": "iss_sub", "iss": gatetest.Issuer}}, nil},
		{"sub empty", M{"sub_id": user("")}, nil},
		{"sub with NUL", M{"sub_id": user("a\x00b")}, nil},
		{"sub a number", M{"sub_id": M{"format": "iss_sub", "iss": gatetest.Issuer, "sub": 1}}, nil},
		{"sub long", M{"sub_id": user(strings.Repeat("x", maxText+1))}, nil},
		{"an unknown format", M{"sub_id": M{"format": "iss-sub", "iss": gatetest.Issuer, "sub": "alice"}}, nil},
		{"a text", M{"sub_id": "alice"}, nil},
		{"null", M{"sub_id": json.RawMessage("null")}, nil},
		{"no alias that is known", M{"sub_id": M{"format": "aliases", "identifiers": []M{email, foreign}}}, nil},
		{"aliases in aliases", M{"sub_id": M{"format": "aliases", "identifiers": []M{{"format": "aliases", "identifiers": []M{user("alice")}}}}}, nil},
		{"many aliases", M{"sub_id": M{"format": "aliases", "identifiers": slices.Repeat([]M{user("alice")}, maxIdentifiers+1)}}, nil},
		{"complex in complex", M{"sub_id": M{"format": "complex", "user": M{"format": "complex", "user": user("alice")}}}, nil},
		{"complex without a known member", M{"sub_id": M{"format": "complex", "tenant": user("alice")}}, nil},
		{"complex of another server", M{"sub_id": M{"format": "complex", "user": foreign}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := r.verify(t.Context(), s.sign(revoked("1", c.claims)))
			if f, refused := isFault(err); c.want == nil {
				if !refused || f.code != invalidRequest {
					t.Errorf("verify = %+v, %v; want %s", got, err, invalidRequest)
				} else if strings.Contains(f.description, "alice") {
					t.Errorf("the error %q names the subject", f.description)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.entries) != len(c.want) {
				t.Fatalf("%d entries, want %d", len(got.entries), len(c.want))
			}
			for i, e := range got.entries {
				kind, subject := revocation.ForeignSubject, revocation.ForeignSubjectName(gatetest.Issuer, c.want[i])
				if id, isToken := strings.CutPrefix(c.want[i], "jti:"); isToken {
					kind, subject = revocation.ForeignToken, revocation.ForeignTokenSum(gatetest.Issuer, id)
				}
				if e.Kind != kind || e.Subject != subject || e.Check() != nil {
					t.Errorf("entry %d is %+v, want %s", i, e, c.want[i])
				}
			}
		})
	}
}

// No payload that a server signs makes readEvents panic. The entries are well-formed, and each revoked user is a user of
// the server.
func FuzzClaims(f *testing.F) {
	r := &Receiver{issuer: gatetest.Issuer, leeway: time.Minute}
	now := time.Unix(1_800_000_000, 0)
	for _, claims := range []M{
		{"sub_id": M{"format": "iss_sub", "iss": gatetest.Issuer, "sub": "alice"}, "events": M{caep + "session-revoked": M{"event_timestamp": 1}}},
		{"events": M{caep + "session-revoked": M{"subject": M{"user": M{"format": "aliases", "identifiers": []M{{"format": "jwt_id", "iss": gatetest.Issuer, "jti": "x"}}}}}}},
		{"sub": "x", "iss": gatetest.Issuer, "events": M{caep + "credential-change": M{"change_type": "revoke"}}, "toe": math.MaxInt64},
	} {
		f.Add(gatetest.JSON(claims))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, ok := readClaims(payload)
		if !ok {
			return
		}
		s := &statement{}
		if err := r.readEvents(s, c, now, now); err != nil {
			if _, refused := isFault(err); !refused {
				t.Errorf("readEvents = %v, want a fault", err)
			}
			return
		}
		if (s.result == applied) != (len(s.entries) > 0) {
			t.Errorf("result %v with %d entries", s.result, len(s.entries))
		}
		for _, e := range s.entries {
			if err := e.Check(); err != nil {
				t.Errorf("entry %+v: %v", e, err)
			}
			if own := strings.HasPrefix(e.Subject, gatetest.Issuer+"\x00"); e.Kind == revocation.ForeignSubject && !own {
				t.Errorf("entry %+v is not of the server", e)
			}
		}
	})
}
