package feed

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

var versions = map[string]bool{"HTTP/1.1": false, "HTTP/2": true}

// A follower applies messages as a gate does.
type follower struct {
	position revocation.Position
	known    map[string]bool
	complete bool // the last message was a heartbeat
	issued   float64
}

// apply returns an error if the follower has missed something, or if iat of a batch goes backwards.
func (f *follower) apply(m *received) error {
	if f.known == nil {
		f.known = make(map[string]bool)
	}
	f.complete = m.isHead()
	entries := m.Entries
	if m.Entry != nil {
		entries = append(entries, *m.Entry)
	} else {
		if m.IssuedAt < f.issued {
			return fmt.Errorf("iat goes from %f to %f", f.issued, m.IssuedAt)
		}
		f.issued = m.IssuedAt
	}
	for i := range entries {
		f.known[entries[i].Subject] = true
	}
	reached := revocation.Position{Epoch: m.Epoch, Seq: m.Seq}
	if m.Snapshot > 0 {
		if m.Last {
			f.position = reached
		}
		if (m.ID != "") != m.Last {
			return fmt.Errorf("part %d has the id %q, want an id in the last part alone", m.Snapshot, m.ID)
		}
		return nil
	}
	if m.Epoch != f.position.Epoch || m.After > f.position.Seq {
		return fmt.Errorf("a message behind %s:%d at %s", m.Epoch, m.After, f.position)
	}
	if m.ID != reached.String() {
		return fmt.Errorf("got the id %s, want %s", m.ID, reached)
	}
	f.position.Seq = max(f.position.Seq, m.Seq)
	return nil
}

// A stream lasts longer than the timeouts of the server, and its follower gets every revocation, also of a
// flood.
func TestStream(t *testing.T) {
	for name, over2 := range versions {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.add(2500)
			h.poll()
			stream := h.open("", over2)
			began := time.Now()
			var f follower
			added := 2500
			for step := 0; step < 12; {
				m, err := h.next(stream)
				if err == nil {
					err = f.apply(&m)
				}
				if err != nil {
					t.Fatalf("after %s: %v", time.Since(began), err)
				}
				if f.complete && len(f.known) == added {
					step++
					n := []int{0, 1, 7, 30, 3000}[step%5]
					h.add(n)
					added += n
					time.Sleep(100 * time.Millisecond) // 12 steps take longer than the timeouts of the server, 500 ms
				}
			}
		})
	}
}

// The stream of a subscriber that reads nothing ends and is counted, and other streams continue.
func TestSlowSubscriber(t *testing.T) {
	for name, over2 := range versions {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *Options) { o.WriteTimeout = 300 * time.Millisecond; o.Ring = 1 << 17 })
			h.add(0)
			_ = h.open("", over2) // reads nothing
			stream := h.open("", over2)
			var f follower
			// 64 pages of 1000 revocations of 100 bytes are 6 MB, more than all buffers of a connection.
			for added := 0; h.dropped(bySlowness) == 0; {
				if added < 200_000 {
					h.add(1000)
					added += 1000
				} else {
					h.add(0)
				}
				for {
					m, err := h.next(stream)
					if err == nil {
						err = f.apply(&m)
					}
					if err != nil {
						t.Fatal(err)
					}
					if f.complete && len(f.known) == added {
						break
					}
					if f.complete {
						h.add(0)
					}
				}
			}
			h.within("one subscriber is left", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.Feed.mu.Lock()
				defer h.Feed.mu.Unlock()
				return h.streams.open == 1
			})
		})
	}
}

// After a gap subscribers get no batch, until a page continues the published pages.
func TestGap(t *testing.T) {
	for name, page := range map[string]store.Page{
		"page begins behind the head":  {Epoch: "one", After: 11, Seq: 11},
		"additions behind the head":    {Epoch: "one", After: 11, Seq: 12, Additions: []store.Addition{{Seq: 12, Revocation: store.Revocation{Kind: 2, Subject: "a", IssuedBy: time.Now()}}}},
		"log ends before the head":     {Epoch: "one", After: 9, Seq: 9},
		"numbers in the wrong order":   {Epoch: "one", After: 10, Seq: 12, Additions: []store.Addition{{Seq: 12}, {Seq: 11}}},
		"number twice":                 {Epoch: "one", After: 10, Seq: 12, Additions: []store.Addition{{Seq: 11}, {Seq: 11}}},
		"number behind the page":       {Epoch: "one", After: 10, Seq: 11, Additions: []store.Addition{{Seq: 12}}},
		"number before the page":       {Epoch: "one", After: 10, Seq: 11, Additions: []store.Addition{{Seq: 10}}},
		"page ends before it begins":   {Epoch: "one", After: 10, Seq: 9},
		"new epoch from a later place": {Epoch: "two", After: 3, Seq: 3},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.add(10)
			h.Publish(page)
			for _, position := range []revocation.Position{{}, {Epoch: "one", Seq: 10}, {Epoch: "one", Seq: 3}, {Epoch: "two", Seq: 3}} {
				s := &stream{feed: h.Feed, Subscription: Subscription{Position: position}}
				h.Feed.mu.Lock()
				_, b, snapshot, _ := s.choose()
				h.Feed.mu.Unlock()
				if b != nil || snapshot != nil {
					t.Errorf("a subscriber at %q gets a batch or a snapshot after the gap, want none", position)
				}
			}
			if page.Epoch == "two" {
				return
			}
			h.add(1)
			var f follower
			for stream := h.open("", false); !f.complete; {
				m, err := h.next(stream)
				if err == nil {
					err = f.apply(&m)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if f.position.Seq != 11 || len(f.known) != 11 {
				t.Errorf("the follower is at %s with %d revocations, want one:11 and 11", f.position, len(f.known))
			}
		})
	}
}

// A log that is read again sends nothing twice, and holes in the numbers are passed over.
func TestReadAgain(t *testing.T) {
	h := newHarness(t)
	h.add(3)
	stream := h.open("", false)
	var f follower
	follow := func() (messages int) {
		t.Helper()
		for f.complete = false; !f.complete; messages++ {
			m, err := h.next(stream)
			if err == nil {
				err = f.apply(&m)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return messages
	}
	follow()
	again := store.Page{Epoch: "one", Seq: 3}
	for seq := uint64(1); seq <= 3; seq++ {
		e := tokenEntry(seq)
		again.Additions = append(again.Additions, store.Addition{Seq: seq, Revocation: store.Revocation{Kind: e.Kind, Subject: e.Subject, Until: e.Until}})
	}
	h.Publish(again)
	h.head.Seq = 7 // 4 to 7 have left the log
	h.Publish(store.Page{Epoch: "one", After: 3, Seq: 7})
	h.add(0)
	if messages := follow(); f.position.Seq != 7 || len(f.known) != 3 || messages > 2 {
		t.Errorf("after %d messages the follower is at %s with %d revocations, want at most 2, one:7 and 3", messages, f.position, len(f.known))
	}
	h.head = store.Page{Epoch: "two"}
	h.add(2)
	follow()
	if f.position != (revocation.Position{Epoch: "two", Seq: 2}) {
		t.Errorf("after a new epoch the follower is at %s, want two:2", f.position)
	}
}

// A ring that is full keeps the latest events; an older position gets a snapshot, which readers share.
func TestRing(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Ring = 10 })
	for range 100 {
		h.add(1)
	}
	if n := len(h.ring.events); n < 10 || n >= 20 {
		t.Errorf("the ring has %d events, want 10 to 19", n)
	}
	for _, at := range []uint64{0, 50, h.ring.floor - 1, h.ring.floor, 95, 100} {
		f := follower{position: revocation.Position{Epoch: "one", Seq: at}}
		stream := h.open(f.position.String(), false)
		snapshots := 0
		for !f.complete {
			h.add(0)
			m, err := h.next(stream)
			if err == nil {
				err = f.apply(&m)
			}
			if err != nil {
				t.Fatal(err)
			}
			snapshots += m.Snapshot
		}
		if want := at < h.ring.floor; snapshots > 0 != want || f.position.Seq != 100 {
			t.Errorf("from %d the follower is at %s after %d parts of a snapshot, want one:100 and a snapshot: %t", at, f.position, snapshots, want)
		}
	}
	if n := len(h.batches); n > keptBatches {
		t.Errorf("%d batches are kept, want at most %d", n, keptBatches)
	}
}

// Events with long subjects, which another authorization server chooses, stay within the bytes of the ring. eventSize is at
// least the number of bytes of each event. Readers of the kept events get every event.
func TestRingBytes(t *testing.T) {
	const limit = 1 << 20
	h := newHarness(t, func(o *Options) { o.RingBytes = limit })
	subject := revocation.ForeignSubjectName("https://as.example", strings.Repeat("\x01", 1000))
	for n := range uint64(300) {
		a := store.Addition{Seq: n + 1, Stored: time.Now(), Revocation: store.Revocation{Kind: revocation.ForeignSubject, Subject: fmt.Sprint(subject, n), IssuedBy: time.Now()}}
		if err := h.set.Add(a.Entry()); err != nil {
			t.Fatal(err)
		}
		h.Publish(store.Page{Epoch: "one", After: n, Seq: n + 1, Additions: []store.Addition{a}})
		taken := 0
		for _, e := range h.ring.events {
			text, err := h.securityEvent("one", e)
			if err != nil {
				t.Fatal(err)
			}
			if taken += len(text) + len(e.entry.Subject); len(text)+len(e.entry.Subject) > eventSize(&e.entry) {
				t.Fatalf("an event takes %d bytes, and eventSize is %d", len(text)+len(e.entry.Subject), eventSize(&e.entry))
			}
		}
		if entry := a.Entry(); taken > limit+eventSize(&entry) {
			t.Fatalf("%d events take %d bytes, more than %d", len(h.ring.events), taken, limit)
		}
	}
	if n := len(h.ring.events); n < limit/2/eventSize(&h.ring.events[0].entry) || h.ring.floor == 0 {
		t.Errorf("%d events are kept, want at least half of the limit", n)
	}
	if !h.ring.outdates(h.ring.floor) || h.ring.outdates(300) {
		t.Error("a snapshot at the floor must be outdated, and a snapshot at the head must not")
	}
	h.add(0)
	_, _, snapshot, _ := (&stream{feed: h.Feed, Subscription: Subscription{Position: revocation.Position{Epoch: "one", Seq: h.ring.floor}}}).choose()
	if snapshot != nil {
		t.Error("a reader at the floor gets a snapshot, want the events")
	}
}

// While the set lacks a stored revocation, subscribers get neither batch nor snapshot.
func TestIncompleteSet(t *testing.T) {
	missing := errors.New("full")
	h := newHarness(t, func(o *Options) { o.Complete = func() error { return missing } })
	h.add(3)
	for _, position := range []revocation.Position{{}, {Epoch: "one", Seq: 3}} {
		s := &stream{feed: h.Feed, Subscription: Subscription{Position: position}}
		h.Feed.mu.Lock()
		_, b, snapshot, _ := s.choose()
		h.Feed.mu.Unlock()
		if b != nil || snapshot != nil {
			t.Errorf("a subscriber at %q gets a batch or a snapshot, want none", position)
		}
	}
}

// Beyond MaxSubscribers a stream is refused, and a stream that ends makes room.
func TestMaxSubscribers(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.MaxSubscribers = 1 })
	h.poll()
	stream := h.open("", false)
	if err := h.Serve(nil, nil, Subscription{}); !errors.Is(err, ErrFull) || h.dropped(byLimit) != 1 {
		t.Errorf("the second Serve returned %v with %d counted, want ErrFull and 1", err, h.dropped(byLimit))
	}
	h.refused.Store(true)
	for {
		if _, err := h.next(stream); err != nil {
			break
		}
	}
	h.within("refused stream counted", func() bool { return h.dropped(byRecheck) == 1 })
	h.refused.Store(false)
	h.open("", false)
}

// A client with all streams loses streams to other clients until each client has equally many. A client at that number gets
// no further stream: the feed evicts a stream only for a client with fewer streams.
func TestStreamsOfOneClient(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.MaxSubscribers = 4 })
	h.poll()
	for range 4 {
		h.openAs("greedy", "", true)
	}
	if err := h.Serve(nil, nil, Subscription{ClientID: "greedy"}); !errors.Is(err, ErrFull) {
		t.Errorf("the fifth stream of the client: %v, want ErrFull", err)
	}
	for n := range 2 {
		stream := h.openAs("other", "", true)
		if m, err := h.next(stream); err != nil || m.Name != revocation.BatchEvent {
			t.Fatalf("stream %d of another client: %+v, %v; want a batch", n, m, err)
		}
		h.within("an evicted stream has ended", func() bool { return h.dropped(byLimit) == n+2 && h.Status().Subscribers == 4 })
	}
	for _, client := range []string{"greedy", "other"} {
		if err := h.Serve(nil, nil, Subscription{ClientID: client}); !errors.Is(err, ErrFull) {
			t.Errorf("another stream of %s: %v, want ErrFull", client, err)
		}
	}
}

// FuzzPosition: whatever position a subscriber claims, it reaches the head without a gap, and if the log does not
// have the position, with every revocation.
func FuzzPosition(f *testing.F) {
	for _, text := range []string{"one:0", "one:5", "one:40", "one:50", "two:1", "", "one:18446744073709551615", "one:51"} {
		f.Add(text)
	}
	h := newHarness(f, func(o *Options) { o.Ring = 10; o.Heartbeat = time.Nanosecond; o.CatchUp = time.Nanosecond })
	h.add(20)
	h.add(15)
	h.add(15)
	f.Fuzz(func(t *testing.T, text string) {
		h.t = t
		position, _ := revocation.ParsePosition(text)
		h.add(0)
		s := &stream{feed: h.Feed, Subscription: Subscription{Position: position}}
		reader := follower{position: position}
		for range 100 {
			texts, changed, end := s.next()
			if end != nil {
				t.Fatal(end)
			}
			if s.snapshot != nil && len(texts) == 0 {
				<-changed // the snapshot is built
			}
			for _, text := range texts {
				m := h.decode(splitLines(text))
				if err := reader.apply(&m); err != nil {
					t.Fatal(err)
				}
			}
			if reader.complete {
				break
			}
		}
		if !reader.complete || reader.position != (revocation.Position{Epoch: "one", Seq: 50}) {
			t.Fatalf("from %q the follower is at %s, want one:50 and a heartbeat", text, reader.position)
		}
		if known := position.Epoch == "one" && position.Seq <= 50; !known && len(reader.known) != 50 {
			t.Errorf("from %q the follower knows %d revocations, want 50", text, len(reader.known))
		}
	})
}

// BenchmarkSnapshot makes a snapshot of a million revoked tokens.
func BenchmarkSnapshot(b *testing.B) {
	h := newHarness(b)
	for i := range uint64(1_000_000) {
		if err := h.set.Add(tokenEntry(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		s := &snapshot{epoch: "one", seq: 1, ready: make(chan struct{})}
		h.build(s)
		size := 0
		for _, part := range s.parts {
			size += len(part)
		}
		b.ReportMetric(float64(size), "bytes")
		b.ReportMetric(float64(len(s.parts)), "parts")
	}
}

// BenchmarkPublish is what a page of 1,000 revocations costs the goroutine that follows the log, while subscribers wait.
func BenchmarkPublish(b *testing.B) {
	h := newHarness(b)
	b.ReportAllocs()
	for b.Loop() {
		h.add(1000)
	}
}
