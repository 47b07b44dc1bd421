package subscriber

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/revocation"
)

const million = 1_000_000

// BenchmarkStartFromFile is the time in which a gate loads a million revocations from its file, and writes them.
func BenchmarkStartFromFile(b *testing.B) {
	k := newKnowledge()
	for i := range million {
		check(b, k.set.Add(token(fmt.Sprint(i))))
	}
	k.jump("e", million)
	f := &folder{path: b.TempDir()}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			check(b, f.save(k, issuer, time.Now()))
		}
		b.ReportMetric(float64(f.size)/million, "B/entry")
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			loaded := newKnowledge()
			check(b, f.load(loaded, issuer, time.Now()))
			if n := loaded.set.Len(revocation.Token); n != million {
				b.Fatalf("%d revocations, want a million", n)
			}
		}
	})
}

// BenchmarkStartFromSnapshot is the time from the start of a gate until it has a million revocations from a snapshot over a
// TLS connection of this machine, with the memory of the process after that.
func BenchmarkStartFromSnapshot(b *testing.B) {
	const parts = million / revocation.BatchSize
	var messages []string
	for part := range parts {
		entries := make([]revocation.Entry, revocation.BatchSize)
		for i := range entries {
			entries[i] = token(fmt.Sprint(part, i))
		}
		claims := M{"iss": issuer, "iat": 1e9, "epoch": "e", "after": 0, "seq": million, "snapshot": part + 1, "last": part == parts-1, "entries": entries}
		messages = append(messages, "event: batch\nid: e:0\ndata: "+key.Token(claims, M{"typ": revocation.BatchType})+"\n\n")
	}
	bytes := 0
	for _, m := range messages {
		bytes += len(m)
	}
	s := newIssuer(b, func(c *connection) {
		c.begin()
		for _, m := range messages {
			_, _ = c.Write([]byte(m))
		}
		c.heartbeat(million)
		c.idle()
	})
	for b.Loop() {
		g := s.open(b, gateOptions{edit: func(r *config.Revocations) { r.MaxStaleness = time.Hour }})
		for g.Current() != nil {
			time.Sleep(time.Millisecond)
		}
		if n := g.Set().Len(revocation.Token); n != million {
			b.Fatalf("%d revocations, want a million", n)
		}
		b.StopTimer()
		runtime.GC()
		g.lease.Release()
		b.StartTimer()
	}
	b.ReportMetric(float64(bytes)/million, "B/entry")
}
