package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
	"github.com/tallygate/tallygate/issuer/store/storetest"
	"github.com/tallygate/tallygate/revocation"
)

// An import copies every record, can be repeated, and refuses a database with other signing keys.
func TestImport(t *testing.T) {
	server := testpostgres.Shared(t)
	file, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	keys := []store.Key{{ID: "a", Private: []byte("a"), Created: at(1), Activated: at(1)}, {ID: "b", Private: []byte("b"), Created: at(2)}}
	if err := file.ReplaceKeys(nil, keys); err != nil {
		t.Fatal(err)
	}
	const many = 1100 // more than a page
	var wait sync.WaitGroup
	for n := range many {
		wait.Go(func() {
			if err := errors.Join(
				file.AddToken(sum(fmt.Sprint(n)), store.Token{Client: "c", Expires: at(int64(1000 + n)), Record: fmt.Append(nil, n)}),
				file.Revoke(store.Revocation{Kind: revocation.Token, Subject: string(fmt.Append(nil, "\x00\xff", n)), Client: "c", Until: at(int64(1000 + n)), Actor: "ä", Reason: fmt.Sprint(n)}),
			); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if err := file.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p", IssuedBy: time.Now()}); err != nil {
		t.Fatal(err)
	}
	want := postgres.Imported{Keys: 2, Tokens: many, Revocations: many + 1, Audit: many}
	o := options(t, server.Database())
	s := open(t, o)
	for range 2 {
		if got, err := s.Import(file); got != want || err != nil {
			t.Fatalf("Import returned %+v, %v; want %+v", got, err, want)
		}
	}
	imported, err := s.Keys()
	if diff := cmp.Diff(keys, imported); diff != "" || err != nil {
		t.Errorf("Keys returned %v (-want +got):\n%s", err, diff)
	}
	if token, ok, err := s.Token(sum("7")); !ok || err != nil || string(token.Record) != "7" || token.Client != "c" || !token.Expires.Equal(at(1007)) {
		t.Errorf("Token returned %+v, %t, %v", token, ok, err)
	}
	n := 0
	if err := s.Revocations(func(store.Revocation) error { n++; return nil }); n != many+1 || err != nil {
		t.Errorf("Revocations returned %d, %v; want %d", n, err, many+1)
	}

	audit, copied := storetest.Audit(t, file), storetest.Audit(t, s)
	if diff := cmp.Diff(audit, copied, cmpopts.IgnoreFields(store.AuditRecord{}, "Number")); diff != "" {
		t.Errorf("the audit (-want +got):\n%.2000s", diff)
	}

	other := open(t, options(t, server.Database()))
	if err := other.ReplaceKeys(nil, []store.Key{{ID: "other", Activated: at(1)}}); err != nil {
		t.Fatal(err)
	}
	if got, err := other.Import(file); err == nil || !contains(err.Error(), "other signing keys") || got != (postgres.Imported{}) {
		t.Errorf("Import into a database with other keys returned %+v, %v; want an error before any change", got, err)
	}
}
