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
)

// revocationOf is what client asks for the token with this jti.
func revocationOf(id, client string, until time.Time) store.Revocation {
	sum := sha256.Sum256([]byte(id))
	return store.Revocation{Kind: store.RevokedToken, Subject: string(sum[:]), Client: client, Until: until}
}

func (s *revocations) has(id string) bool {
	return s.revokes(id, "", "", access.Thumbprint{}, 0)
}

// Memory takes so many revocations and no more, keeps those that it has, and makes
// room when they are over. An operator's are always taken.
func TestRevocationsFull(t *testing.T) {
	s := newRevocations()
	until := time.Now().Add(time.Hour)
	for n := range maxRevocations {
		r := revocationOf(fmt.Sprint(n), fmt.Sprint(n/maxPerClient), until)
		if s.isFull(r) {
			t.Fatalf("full at %d", n)
		}
		s.publish(r)
	}
	if !s.isFull(revocationOf("one more", "another", until)) {
		t.Error("takes one more")
	}
	if s.isFull(revocationOf("0", "0", until)) || s.isFull(revocationOf("one more", "", until)) {
		t.Error("refuses one that it has, or an operator's")
	}
	if !s.has("0") || !s.has(fmt.Sprint(maxRevocations-1)) || s.has("one more") {
		t.Error("forgot one that it had")
	}
	s.sweep(until.Add(time.Minute))
	if s.isFull(revocationOf("one more", "0", until)) || s.has("0") || len(s.tokens) != 0 || len(s.perClient) != 0 {
		t.Errorf("%d left, of %v", len(s.tokens), s.perClient)
	}
}

// One client cannot take the room of the others, and gets its own back when its
// tokens are over.
func TestRevocationShare(t *testing.T) {
	s := newRevocations()
	until := time.Now().Add(time.Hour)
	for n := range maxPerClient {
		s.publish(revocationOf(fmt.Sprint(n), "greedy", until))
	}
	if !s.isFull(revocationOf("one more", "greedy", until)) {
		t.Error("takes one more of the same client")
	}
	if s.isFull(revocationOf("0", "greedy", until)) || s.isFull(revocationOf("first", "modest", until)) {
		t.Error("refuses one that it has, or another client's")
	}
	s.sweep(until.Add(time.Minute))
	if s.isFull(revocationOf("one more", "greedy", until)) {
		t.Error("the share does not come back")
	}
}

// It is asked on every request of the gate.
func TestRevokedAllocations(t *testing.T) {
	i := &Issuer{revocations: newRevocations()}
	i.revocations.publish(revocationOf("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "client", time.Now().Add(time.Hour)))
	yes, no := access.Unchecked{TokenID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, access.Unchecked{}
	if n := testing.AllocsPerRun(1000, func() {
		if !i.Revoked(yes) || i.Revoked(no) {
			t.Error("wrong answer")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What cannot be stored does not count, and is not answered as if it did.
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
		t.Errorf("not revocations: %v", err)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.add(revocationOf("lost", "client", until)); err == nil || s.has("lost") {
		t.Errorf("revoked although nothing was stored: %v", err)
	}
}

// An IPv6 host has a /64 to itself, so all of it shares one bucket; IPv4 hosts and a
// caller without an address have one each.
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
			t.Errorf("%s: allowed is %t", step.address, got)
		}
	}
	if !a.allow(netip.Addr{}) || a.allow(netip.Addr{}) {
		t.Error("callers without an address share no bucket")
	}
}
