package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
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
		if err := i.RevokeForeign(t.Context(), issuer, entries); err != nil {
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
	others := revocation.Entry{Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum("https://other.example", "1"), Until: now.Add(time.Hour)}
	for n := range maxForeign - len(entries)/2 {
		if err := s.set.Add(revocation.Entry{Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum(issuer, fmt.Sprint("x", n))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.RevokeForeign(t.Context(), issuer, []revocation.Entry{others}); !errors.Is(err, revocation.ErrFull) {
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

// An authorization server that has filled its share of the revocations, also before a restart, does not prevent the
// revocations by another server, and its revocations can still be extended.
func TestForeignShare(t *testing.T) {
	file, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	start := func() (*Issuer, *revocations) {
		s := newRevocations()
		s.foreign = 20
		if err := s.load(file); err != nil {
			t.Fatal(err)
		}
		return &Issuer{shared: &shared{revocations: s, state: file}}, s
	}
	until := time.Now().Add(time.Hour)
	token := func(issuer string, n int) []revocation.Entry {
		return []revocation.Entry{{Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum(issuer, fmt.Sprint(n)), Until: until}}
	}
	subject := func(issuer string, n int) []revocation.Entry {
		return []revocation.Entry{{Kind: revocation.ForeignSubject, Subject: revocation.ForeignSubjectName(issuer, fmt.Sprint(n)), IssuedBy: time.Now(), Until: until}}
	}
	const hostile, other = "https://hostile.example", "https://other.example"
	for name, entries := range map[string]func(string, int) []revocation.Entry{"tokens": token, "subjects": subject} {
		i, _ := start()
		stored := 0
		for n := range 20 {
			switch err := i.RevokeForeign(t.Context(), hostile, entries(hostile, n)); {
			case err == nil:
				stored++
			case !errors.Is(err, revocation.ErrFull):
				t.Fatal(err)
			}
		}
		if stored != 10 {
			t.Errorf("%s: %d of 20 revocations by one server are stored, want 10", name, stored)
		}
		i, s := start()
		if err := i.RevokeForeign(t.Context(), hostile, entries(hostile, 20)); !errors.Is(err, revocation.ErrFull) {
			t.Errorf("%s: after a restart one more = %v, want %v", name, err, revocation.ErrFull)
		}
		if err := i.RevokeForeign(t.Context(), hostile, entries(hostile, 0)); err != nil {
			t.Errorf("%s: a revocation that is stored = %v, want nil", name, err)
		}
		if err := i.RevokeForeign(t.Context(), other, entries(other, 0)); err != nil {
			t.Errorf("%s: a revocation by another server = %v, want nil", name, err)
		}
		s.sweepShares(until.Add(2 * time.Minute))
		if len(s.shares) != 0 {
			t.Errorf("%s: shares %v after the end of all, want none", name, s.shares)
		}
	}
}

// Long subjects, which take more memory and more of a snapshot, use more of the share.
func TestForeignShareOfLongSubjects(t *testing.T) {
	const issuer = "https://hostile.example"
	s := newRevocations()
	s.foreign = 2000
	held, text := 0, 0
	for n := range 1000 {
		r := store.Revocation{
			Kind: revocation.ForeignSubject, Subject: revocation.ForeignSubjectName(issuer, fmt.Sprint(strings.Repeat("\x01", 1000), n)), Client: issuer,
			IssuedBy: time.Now(), Until: time.Now().Add(time.Hour),
		}
		if s.isFull(&r) {
			break
		}
		if err := s.put(&r); err != nil {
			t.Fatal(err)
		}
		content, err := json.Marshal(r.Entry())
		if err != nil {
			t.Fatal(err)
		}
		held, text = held+1, text+len(content)
	}
	if most := 1000 * (256 + 170); text > most || held == 0 {
		t.Errorf("%d revocations of %d bytes are held, want at most %d bytes", held, text, most)
	}
}
