package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/storetest"
)

// T-ADD-16: a client can fill only its share of the space. Its tokens stay, other clients can store
// tokens, also after a restart, and swept tokens free their space.
func TestTokenShare(t *testing.T) {
	const space = 4 << 20
	folder := t.TempDir()
	f := open(t, folder)
	f.LimitTokens(space)
	first := storetest.FillShare(t, []*store.File{f}, "greedy", 500, 100)
	if each := space / 9 / (500 * 4 / 3); first < each/2 || first > each {
		t.Errorf("a client alone stores %d tokens, want at most %d and at least half of that", first, each)
	}
	for n := range 16 {
		if more := storetest.FillShare(t, []*store.File{f}, fmt.Sprint("greedy ", n), 500, 100); more < first/8 {
			t.Errorf("client %d with %d others stores %d tokens, the first stored %d", n, n+1, more, first)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, folder)
	f.LimitTokens(space)
	if err := f.AddToken(sum("new"), store.Token{Client: "late", Expires: at(200), Record: make([]byte, 500)}); err != nil {
		t.Errorf("AddToken for a client without tokens returned %v, want nil", err)
	}
	if err := f.AddToken(sum("more"), store.Token{Client: "greedy", Expires: at(200), Record: make([]byte, 500)}); !errors.Is(err, store.ErrShare) {
		t.Errorf("AddToken for a client at its share returned %v, want ErrShare", err)
	}
	if _, ok, err := f.Token(sum(fmt.Sprint("greedy", 100, 0, 0))); !ok || err != nil {
		t.Errorf("Token for the client's first token returned %t, %v; want true", ok, err)
	}
	if _, err := f.Sweep(at(101)); err != nil {
		t.Fatal(err)
	}
	if again := storetest.FillShare(t, []*store.File{f}, "greedy", 500, 300); again < first*9/10 {
		t.Errorf("after a sweep the client stores %d tokens, at first it stored %d", again, first)
	}
}

// The file stays within the size that defaultTokenBytes assumes, even if clients fill it again and again.
func TestTokenFileSize(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	const space = 16 << 20
	folder := t.TempDir()
	f := open(t, folder)
	f.LimitTokens(space)
	for round := range int64(2) {
		for n := range 12 {
			storetest.FillShare(t, []*store.File{f}, fmt.Sprint("client ", n), 4000, 100+round)
		}
		if _, err := f.Sweep(at(101 + round)); err != nil {
			t.Fatal(err)
		}
	}
	status, err := os.Stat(filepath.Join(folder, "issuer.db"))
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(2*space + 16<<20); status.Size() > most { // the file grows by 16 MiB at a time
		t.Errorf("the file has %d MiB, want %d at most", status.Size()>>20, most>>20)
	}
	t.Logf("the file has %d MiB for %d MiB of tokens", status.Size()>>20, space>>20)
}

// Tokens in a file of an earlier version, without usage, are charged to no client.
func TestTokensWithoutShares(t *testing.T) {
	folder := t.TempDir()
	f := open(t, folder)
	for n := range 10 {
		if err := f.AddToken(sum(fmt.Sprint(n)), store.Token{Expires: at(100), Record: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(folder, "issuer.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("usage")) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	f = open(t, folder)
	if n, err := f.Sweep(at(50)); n != 0 || err != nil {
		t.Errorf("Sweep before expiry returned %d, %v; want 0", n, err)
	}
	if err := f.AddToken(sum("new"), store.Token{Client: "c", Expires: at(200), Record: []byte("{}")}); err != nil {
		t.Errorf("AddToken returned %v, want nil", err)
	}
	if n, err := f.Sweep(at(101)); n != 10 || err != nil {
		t.Errorf("Sweep returned %d, %v; want 10", n, err)
	}
}
