package issuer

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
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
		r := revocationOf(fmt.Sprint(n), fmt.Sprint(n/clientShare), until)
		if s.full(r) {
			t.Fatalf("full at %d", n)
		}
		s.publish(r)
	}
	if !s.full(revocationOf("one more", "another", until)) {
		t.Error("takes one more")
	}
	if s.full(revocationOf("0", "0", until)) || s.full(revocationOf("one more", "", until)) {
		t.Error("refuses one that it has, or an operator's")
	}
	if !s.has("0") || !s.has(fmt.Sprint(maxRevocations-1)) || s.has("one more") {
		t.Error("forgot one that it had")
	}
	s.sweep(until.Add(time.Minute))
	if s.full(revocationOf("one more", "0", until)) || s.has("0") || len(s.tokens) != 0 || len(s.held) != 0 {
		t.Errorf("%d left, of %v", len(s.tokens), s.held)
	}
}

// One client cannot take the room of the others, and gets its own back when its
// tokens are over.
func TestRevocationShare(t *testing.T) {
	s := newRevocations()
	until := time.Now().Add(time.Hour)
	for n := range clientShare {
		s.publish(revocationOf(fmt.Sprint(n), "greedy", until))
	}
	if !s.full(revocationOf("one more", "greedy", until)) {
		t.Error("takes one more of the same client")
	}
	if s.full(revocationOf("0", "greedy", until)) || s.full(revocationOf("first", "modest", until)) {
		t.Error("refuses one that it has, or another client's")
	}
	s.sweep(until.Add(time.Minute))
	if s.full(revocationOf("one more", "greedy", until)) {
		t.Error("the share does not come back")
	}
}

// It is asked on every request of the gate.
func TestRevokedAllocations(t *testing.T) {
	i := &Issuer{revoked: newRevocations()}
	i.revoked.publish(revocationOf("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "client", time.Now().Add(time.Hour)))
	yes, no := access.Unchecked{TokenID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, access.Unchecked{}
	if n := testing.AllocsPerRun(1000, func() {
		if !i.Revoked(yes) || i.Revoked(no) {
			t.Error("wrong answer")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
