package issuer

import (
	"fmt"
	"testing"
	"time"
)

// TestRevocationsFull: the set takes so many and no more, keeps those that it has,
// and makes room when they are over.
func TestRevocationsFull(t *testing.T) {
	s := newRevocations()
	now := time.Now()
	until := now.Add(time.Hour)
	for n := range maxRevocations {
		if !s.add(fmt.Sprint(n), fmt.Sprint(n/clientShare), until, now) {
			t.Fatalf("full at %d", n)
		}
	}
	if s.add("one more", "another", until, now) || s.contains("one more") {
		t.Error("took one more")
	}
	if !s.add("0", "0", until, now) || !s.contains("0") || !s.contains(fmt.Sprint(maxRevocations-1)) {
		t.Error("forgot one that it had")
	}
	later := until.Add(time.Minute)
	if !s.add("one more", "0", later.Add(time.Hour), later) || !s.contains("one more") || s.contains("0") || len(s.entries) != 1 || len(s.held) != 1 {
		t.Errorf("%d left, of %v", len(s.entries), s.held)
	}
}

// TestRevocationShare: one client cannot take the room of the others, and gets its
// own back when its tokens are over.
func TestRevocationShare(t *testing.T) {
	s := newRevocations()
	now := time.Now()
	until := now.Add(time.Hour)
	for n := range clientShare {
		if !s.add(fmt.Sprint(n), "greedy", until, now) {
			t.Fatalf("full at %d", n)
		}
	}
	if s.add("one more", "greedy", until, now) || s.contains("one more") {
		t.Error("took one more of the same client")
	}
	if !s.add("0", "greedy", until, now) || !s.add("first", "modest", until, now) || !s.contains("first") {
		t.Error("refused one that it had, or another client's")
	}
	later := until.Add(time.Minute)
	if !s.add("one more", "greedy", later.Add(time.Hour), later) {
		t.Error("the share does not come back")
	}
}

// TestRevokedAllocations: it is asked on every request of the gate.
func TestRevokedAllocations(t *testing.T) {
	i := &Issuer{revoked: newRevocations()}
	i.revoked.add("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "client", time.Now().Add(time.Hour), time.Now())
	if n := testing.AllocsPerRun(1000, func() {
		if !i.Revoked("ABCDEFGHIJKLMNOPQRSTUVWXYZ") || i.Revoked("") {
			t.Error("wrong answer")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
