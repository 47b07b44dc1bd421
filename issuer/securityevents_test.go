package issuer

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// Revocations by another server are durable and in effect when RevokeForeign returns, and do not fill the audit.
// Without room, RevokeForeign stores nothing.
func TestRevokeForeign(t *testing.T) {
	const issuer = "https://keycloak.example/realms/partners"
	dir := t.TempDir()
	file, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newRevocations()
	if err := s.load(file); err != nil {
		t.Fatal(err)
	}
	i := &Issuer{shared: &shared{revocations: s, state: file}}
	now := time.Now()
	var entries []revocation.Entry
	for n := range 100 {
		entries = append(entries,
			revocation.Entry{Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum(issuer, fmt.Sprint(n)), Until: now.Add(time.Hour)},
			revocation.Entry{Kind: revocation.ForeignSubject, Subject: revocation.ForeignSubjectName(issuer, fmt.Sprint(n)), IssuedBy: now, Until: now.Add(time.Hour)})
	}
	for range 2 { // a server may send an event again
		if err := i.RevokeForeign(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.set.Len(revocation.ForeignToken) + s.set.Len(revocation.ForeignSubject); n != len(entries) {
		t.Errorf("%d revocations are in effect, want %d", n, len(entries))
	}
	records, err := file.Audit(math.MaxInt64, 1)
	if err != nil || len(records) != 0 {
		t.Errorf("audit records %+v, %v; want none, because the server could fill the audit", records, err)
	}
	for n := range maxForeign - len(entries)/2 {
		if err := s.set.Add(revocation.Entry{Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum(issuer, fmt.Sprint("x", n))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.RevokeForeign(t.Context(), entries[:1]); !errors.Is(err, revocation.ErrFull) {
		t.Errorf("RevokeForeign without room = %v, want %v", err, revocation.ErrFull)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if file, err = store.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	again := newRevocations()
	if err := again.load(file); err != nil {
		t.Fatal(err)
	}
	if n := again.set.Len(revocation.ForeignToken) + again.set.Len(revocation.ForeignSubject); n != len(entries) {
		t.Errorf("%d revocations after a restart, want %d", n, len(entries))
	}
}
