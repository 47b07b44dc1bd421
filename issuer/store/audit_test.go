package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/storetest"
	"github.com/tallygate/tallygate/revocation"
)

// A file keeps the newest audit records.
func TestAuditLimit(t *testing.T) {
	folder := t.TempDir()
	f := open(t, folder)
	f.LimitAudit(3)
	for n := range 5 {
		if err := f.Revoke(store.Revocation{Kind: revocation.Application, Subject: fmt.Sprint(n), IssuedBy: at(1), Actor: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range storetest.Audit(t, open(t, folder)) {
		got = append(got, r.Actor)
	}
	if want := []string{"2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("the audit is %v, want %v", got, want)
	}
}
