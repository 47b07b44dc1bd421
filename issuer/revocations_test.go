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
		if !s.add(fmt.Sprint(n), until, now) {
			t.Fatalf("full at %d", n)
		}
	}
	if s.add("one more", until, now) || s.contains("one more") {
		t.Error("took one more")
	}
	if !s.add("0", until, now) || !s.contains("0") || !s.contains(fmt.Sprint(maxRevocations-1)) {
		t.Error("forgot one that it had")
	}
	later := until.Add(time.Minute)
	if !s.add("one more", later.Add(time.Hour), later) || !s.contains("one more") || s.contains("0") || len(s.until) != 1 {
		t.Errorf("%d left", len(s.until))
	}
}

// TestRevokedAllocations: it is asked on every request of the gate.
func TestRevokedAllocations(t *testing.T) {
	i := &Issuer{revoked: newRevocations()}
	i.revoked.add("ABCDEFGHIJKLMNOPQRSTUVWXYZ", time.Now().Add(time.Hour), time.Now())
	if n := testing.AllocsPerRun(1000, func() {
		if !i.Revoked("ABCDEFGHIJKLMNOPQRSTUVWXYZ") || i.Revoked("") {
			t.Error("wrong answer")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
