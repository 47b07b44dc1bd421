package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// A revocation with an actor writes a record of the request, which stays when the revocation has expired. A
// revocation without an actor writes none. Pages are newest first.
func testAudit(t *testing.T, s Store) {
	binary := sum("jti")
	requested := []store.Revocation{
		{Kind: revocation.Partner, Subject: "p", IssuedBy: at(2), Actor: "alice", Reason: "INC-1: Schlüssel gestohlen"},
		{Kind: revocation.Partner, Subject: "p", IssuedBy: at(1), Actor: "bob"}, // is weaker, and changes nothing
		{Kind: revocation.Token, Subject: string(binary[:]), Until: at(10), Actor: "https://as.example"},
	}
	if err := s.Revoke(store.Revocation{Kind: revocation.Application, Subject: "silent", IssuedBy: at(1)}); err != nil {
		t.Fatal(err)
	}
	for _, r := range requested {
		if err := s.Revoke(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Sweep(at(100)); err != nil {
		t.Fatal(err)
	}
	for _, r := range revocations(t, s) {
		if r.Actor != "" || r.Reason != "" {
			t.Errorf("Revocations returned the actor %q and the reason %q, want none", r.Actor, r.Reason)
		}
	}
	all := Audit(t, s)
	var got []store.Revocation
	for _, r := range all {
		got = append(got, r.Revocation)
		if time.Since(r.Time).Abs() > time.Minute {
			t.Errorf("a record has the time %v, want about now", r.Time)
		}
	}
	if diff := cmp.Diff(requested, got); diff != "" {
		t.Errorf("the audit (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		before uint64
		limit  int
		want   []store.AuditRecord
	}{
		{0, 1, all[2:]}, {0, 0, nil}, {0, -1, nil}, {0, 1 << 30, newest(all)}, {all[2].Number, 5, newest(all[:2])}, {all[0].Number, 5, nil},
		{all[2].Number + 1, 5, newest(all)}, {1 << 63, 5, newest(all)}, {1<<64 - 1, 5, newest(all)},
	} {
		if page, err := s.Audit(c.before, c.limit); err != nil || len(page)+len(c.want) > 0 && !cmp.Equal(c.want, page) {
			t.Errorf("Audit(%d, %d) returned %v, %v; want %v", c.before, c.limit, page, err, c.want)
		}
	}
}

func newest(all []store.AuditRecord) []store.AuditRecord {
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	return reversed
}

// A revocation whose texts are unfit for a log is refused and not stored.
func testAuditTexts(t *testing.T, s Store) {
	for _, c := range []struct{ actor, reason string }{
		{"", "because"}, {"a\nb", ""}, {"a", "b\x00"}, {"a", "b\x7f"}, {"a", "\xff"}, {"a", "\u0085"}, {strings.Repeat("a", store.MaxActor+1), ""}, {"a", strings.Repeat("ü", store.MaxReason/2+1)},
	} {
		err := s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p", IssuedBy: at(1), Actor: c.actor, Reason: c.reason})
		if err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Revoke with the actor %.20q and the reason %.20q returned %v, want a lasting error", c.actor, c.reason, err)
		}
	}
	if held := revocations(t, s); len(held) > 0 || len(Audit(t, s)) > 0 {
		t.Errorf("a refused revocation is stored: %v", held)
	}
	longest := store.Revocation{Kind: revocation.Partner, Subject: "p", IssuedBy: at(1), Actor: strings.Repeat("a", store.MaxActor), Reason: strings.Repeat("ü", store.MaxReason/2)}
	if err := s.Revoke(longest); err != nil {
		t.Error(err)
	}
}

// Audit returns the whole audit of s, oldest first.
func Audit(t testing.TB, s Store) (all []store.AuditRecord) {
	t.Helper()
	for before := uint64(0); ; {
		page, err := s.Audit(before, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			slices.Reverse(all)
			return all
		}
		all = append(all, page...)
		before = page[len(page)-1].Number
	}
}

// checkAudit checks that s has exactly one audit record for each revocation, and no other record.
func checkAudit(t *testing.T, s Store) {
	t.Helper()
	held := revocations(t, s)
	audited := make(map[string]int)
	for _, r := range Audit(t, s) {
		id := fmt.Sprint(r.Kind, r.Subject)
		audited[id]++
		if _, ok := held[id]; !ok || audited[id] > 1 || r.Reason != r.Subject {
			t.Errorf("%s has %d audit records and the reason %q; is it stored: %t", id, audited[id], r.Reason, ok)
		}
	}
	if len(audited) != len(held) {
		t.Errorf("%d of %d revocations have an audit record", len(audited), len(held))
	}
}
