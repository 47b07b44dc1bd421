package postgres_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store/postgres"
	"github.com/tallygate/tallygate/issuer/store/storetest"
)

// T-ADD-16: the tokens of a client at all processes together can fill only its share. Other clients
// can store tokens, and swept tokens free their space.
func TestTokenShare(t *testing.T) {
	const space = 1 << 20
	server := testpostgres.Shared(t)
	url := server.Database()
	stores := []*postgres.Store{open(t, options(t, url)), open(t, options(t, url))}
	for _, s := range stores {
		s.LimitTokens(space)
	}
	first := storetest.FillShare(t, stores, "greedy", 500, 100)
	if each := space / 9 / (500 + 128); first < each*9/10 || first > each {
		t.Errorf("a client alone stores %d tokens, want at most %d and at least nine tenths of that", first, each)
	}
	if more := storetest.FillShare(t, stores, "second", 500, 100); more < first*8/10 {
		t.Errorf("a second client stores %d tokens, the first stored %d", more, first)
	}
	if n, err := stores[0].Sweep(at(101)); n < first || err != nil {
		t.Errorf("Sweep returned %d, %v; want all tokens", n, err)
	}
	if got := server.Value(url.Database, "SELECT sum(bytes)::bigint FROM tallygate.token_usage"); got != "0" {
		t.Errorf("after a sweep of all tokens their size is %s, want 0", got)
	}
	if again := storetest.FillShare(t, stores, "greedy", 500, 300); again < first*9/10 {
		t.Errorf("after a sweep the client stores %d tokens, at first it stored %d", again, first)
	}
}

// One process sweeps at a time, in transactions of bounded size, and concurrent sweeps remove every
// expired row once.
func TestSweepsAtOnce(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	stores := []*postgres.Store{open(t, options(t, url)), open(t, options(t, url)), open(t, options(t, url))}
	server.Exec(url.Database, "INSERT INTO tallygate.tokens (sum, client, expires, record) SELECT sha256(n::text::bytea), '', to_timestamp(100), '' FROM generate_series(1, 4500) n",
		"INSERT INTO tallygate.revocations (kind, subject, seq, client, until) SELECT 1, n::text::bytea, n, '', to_timestamp(100 + n % 2 * 100) FROM generate_series(1, 4500) n")
	var removed atomic.Int64
	var wait sync.WaitGroup
	for _, s := range stores {
		wait.Go(func() {
			n, err := s.Sweep(at(150))
			if err != nil {
				t.Error(err)
			}
			removed.Add(int64(n))
		})
	}
	wait.Wait()
	n, err := stores[0].Sweep(at(150))
	if got := int(removed.Load()) + n; got != 4500+2250 || err != nil {
		t.Errorf("the sweeps removed %d rows, %v; want %d", got, err, 4500+2250)
	}
	if got := server.Value(url.Database, "SELECT count(*) FROM tallygate.revocations"); got != strconv.Itoa(2250) {
		t.Errorf("%s revocations are left, want 2250", got)
	}
}
