package issuer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// revocationOf returns client's revocation of the token with this jti.
func revocationOf(id, client string, until time.Time) store.Revocation {
	sum := sha256.Sum256([]byte(id))
	return store.Revocation{Kind: revocation.Token, Subject: string(sum[:]), Client: client, Until: until}
}

func (s *revocations) has(id string) bool {
	return s.set.Token(sha256.Sum256([]byte(id)))
}

// hold puts a stored revocation into s.
func (s *revocations) hold(t *testing.T, r store.Revocation) {
	t.Helper()
	if err := s.put(&r); err != nil {
		t.Fatal(err)
	}
}

func (s *revocations) refuses(r store.Revocation) bool { return s.isFull(&r) }

// Memory holds a limited number of revocations, refuses more without dropping any, and has space
// again after their retention. Operators have no limit.
func TestRevocationsFull(t *testing.T) {
	s := newRevocations()
	s.limit = 1 << 12
	until := time.Now().Add(time.Hour)
	for n := range s.limit {
		r := revocationOf(fmt.Sprint(n), fmt.Sprint(n/(s.limit/shares)), until)
		if s.refuses(r) {
			t.Fatalf("isFull is true with %d entries, want false", n)
		}
		s.hold(t, r)
	}
	if !s.refuses(revocationOf("one more", "another", until)) {
		t.Error("isFull is false at the limit, want true")
	}
	if s.refuses(revocationOf("0", "0", until)) || s.refuses(revocationOf("one more", "", until)) {
		t.Error("isFull is true for a held entry or an operator, want false")
	}
	if !s.has("0") || !s.has(fmt.Sprint(s.limit-1)) || s.has("one more") {
		t.Error("a held revocation is gone before its retention is over")
	}
	s.sweep(until.Add(time.Minute))
	if left := s.set.Len(revocation.Token); s.refuses(revocationOf("one more", "0", until)) || s.has("0") || left != 0 || len(s.shares) != 0 {
		t.Errorf("after sweep: %d tokens, by client %v; want none", left, s.shares)
	}
}

// One client cannot use the space of others, and has space again after its revocations have
// expired. A revocation that is delivered again counts once.
func TestRevocationShare(t *testing.T) {
	s := newRevocations()
	s.limit = 1 << 12
	until := time.Now().Add(time.Hour)
	for n := range s.limit / shares {
		r := revocationOf(fmt.Sprint(n), "greedy", until)
		s.hold(t, r)
		s.take(store.Page{Additions: []store.Addition{{Revocation: r}}})
		if full := s.refuses(revocationOf("one more", "greedy", until)); full != (n == s.limit/shares-1) {
			t.Fatalf("isFull is %t with %d of %d", full, n+1, s.limit/shares)
		}
	}
	if s.refuses(revocationOf("0", "greedy", until)) || s.refuses(revocationOf("first", "modest", until)) {
		t.Error("isFull is true for a held entry or another client, want false")
	}
	s.sweep(until)
	if !s.refuses(revocationOf("one more", "greedy", until)) {
		t.Error("isFull is false before the end of the retention, want true")
	}
	s.sweep(until.Add(time.Minute))
	if s.refuses(revocationOf("one more", "greedy", until)) {
		t.Error("isFull is true after sweep, want false")
	}
}

// A stored revocation that the set does not take makes every decision unavailable. All pages are published. A sweep reads
// the state again.
func TestRevocationMissed(t *testing.T) {
	state, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	s := newRevocations()
	i := &Issuer{shared: &shared{revocations: s, state: state}}
	if err := s.load(state); err != nil {
		t.Fatal(err)
	}
	published := 0
	s.publish = func(store.Page) { published++ }
	s.take(store.Page{})
	if err := i.current(); err != nil || published != 1 {
		t.Fatalf("current returned %v with %d pages published, want nil and 1", err, published)
	}
	s.take(store.Page{Additions: []store.Addition{{Revocation: store.Revocation{Kind: 99, Subject: "of a later release"}}}})
	s.take(store.Page{})
	if err := i.current(); !errors.Is(err, store.ErrUnavailable) || published != 3 {
		t.Errorf("current returned %v with %d pages published, want ErrUnavailable and 3", err, published)
	}
	s.sweep(time.Now())
	s.take(store.Page{})
	if err := i.current(); err != nil || published != 4 {
		t.Errorf("after the sweep current returned %v with %d pages published, want nil and 4", err, published)
	}
}

// The gate calls Revoked on every request.
func TestRevokedAllocations(t *testing.T) {
	i := &Issuer{shared: &shared{revocations: newRevocations()}, revoking: revocation.NewRules(&config.Config{}, ""), now: time.Now}
	i.revocations.hold(t, revocationOf("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "client", time.Now().Add(time.Hour)))
	yes, no := access.Unchecked{TokenID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, access.Unchecked{}
	if n := testing.AllocsPerRun(1000, func() {
		revoked, err := i.Revoked(yes)
		other, noError := i.Revoked(no)
		if !revoked || other || err != nil || noError != nil {
			t.Error("Revoked returned the wrong result")
		}
	}); n > 0 {
		t.Errorf("Revoked makes %v allocations, want 0", n)
	}
}

// A revocation that cannot be stored is an error and has no effect.
func TestRevocationThatIsNotStored(t *testing.T) {
	state, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := newRevocations()
	if err := s.load(state); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	if err := s.add(revocationOf("stored", "client", until)); err != nil || !s.has("stored") {
		t.Errorf("add returned %v, want nil", err)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.add(revocationOf("lost", "client", until)); err == nil || s.has("lost") {
		t.Errorf("add on a closed store returned %v, want an error and no revocation", err)
	}
}

// An IPv6 /64 shares a limiter. IPv4 addresses have one each, and requests without an address
// share one.
func TestAddressBuckets(t *testing.T) {
	a, err := newAddressRates(config.Rate{RequestsPerSecond: 1, Burst: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		address string
		allowed bool
	}{
		{"192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
		{"2001:db8::1", true}, {"2001:db8::2:1", false}, {"2001:db8:0:1::1", true},
	} {
		if got := a.allow(netip.MustParseAddr(step.address)); got != step.allowed {
			t.Errorf("allow(%s) is %t, want %t", step.address, got, !got)
		}
	}
	if !a.allow(netip.Addr{}) || a.allow(netip.Addr{}) {
		t.Error("allow is true again without an address, want a shared limiter")
	}
}
