package issuer

import (
	"crypto/sha256"
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
	return s.revokes(id, "", "", access.Thumbprint{}, 0)
}

// Memory holds maxRevocations revocations, refuses more without dropping any, and has space
// again after their retention. Operators have no limit.
func TestRevocationsFull(t *testing.T) {
	s := newRevocations()
	until := time.Now().Add(time.Hour)
	for n := range maxRevocations {
		r := revocationOf(fmt.Sprint(n), fmt.Sprint(n/maxPerClient), until)
		if s.isFull(r) {
			t.Fatalf("isFull is true with %d entries, want false", n)
		}
		s.publish(r)
	}
	if !s.isFull(revocationOf("one more", "another", until)) {
		t.Error("isFull is false at the limit, want true")
	}
	if s.isFull(revocationOf("0", "0", until)) || s.isFull(revocationOf("one more", "", until)) {
		t.Error("isFull is true for a held entry or an operator, want false")
	}
	if !s.has("0") || !s.has(fmt.Sprint(maxRevocations-1)) || s.has("one more") {
		t.Error("a held revocation is gone before its retention is over")
	}
	s.sweep(until.Add(time.Minute))
	if s.isFull(revocationOf("one more", "0", until)) || s.has("0") || len(s.tokens) != 0 || len(s.perClient) != 0 {
		t.Errorf("after sweep: %d tokens, by client %v; want none", len(s.tokens), s.perClient)
	}
}

// One client cannot use the space of others, and has space again after its revocations have
// expired.
func TestRevocationShare(t *testing.T) {
	s := newRevocations()
	until := time.Now().Add(time.Hour)
	for n := range maxPerClient {
		s.publish(revocationOf(fmt.Sprint(n), "greedy", until))
	}
	if !s.isFull(revocationOf("one more", "greedy", until)) {
		t.Error("isFull is false at the client's limit, want true")
	}
	if s.isFull(revocationOf("0", "greedy", until)) || s.isFull(revocationOf("first", "modest", until)) {
		t.Error("isFull is true for a held entry or another client, want false")
	}
	s.sweep(until.Add(time.Minute))
	if s.isFull(revocationOf("one more", "greedy", until)) {
		t.Error("isFull is true after sweep, want false")
	}
}

// The gate calls Revoked on every request.
func TestRevokedAllocations(t *testing.T) {
	i := &Issuer{shared: &shared{revocations: newRevocations()}}
	i.revocations.publish(revocationOf("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "client", time.Now().Add(time.Hour)))
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
