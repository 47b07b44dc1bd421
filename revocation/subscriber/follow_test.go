package subscriber

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/revocation"
)

// A gate applies a snapshot, then live revocations, and continues at its position after a lost connection.
func TestFollow(t *testing.T) {
	cut := make(chan struct{})
	s := newIssuer(t, func(c *connection) {
		c.begin()
		if c.n == 0 {
			c.batch(M{"seq": 2, "snapshot": 1, "entries": []any{token("a")}})
			c.batch(M{"seq": 2, "snapshot": 2, "last": true, "entries": []any{application("ledger")}})
			c.heartbeat(2)
			c.set(3, token("b"))
			<-cut
			return
		}
		c.batch(M{"after": 3, "seq": 5, "entries": []any{token("c"), token("d")}})
		c.heartbeat(5)
		c.idle()
	})
	g := s.follow(t)
	g.refuses("b")
	g.current()
	if !g.revoked("a") || g.Set().Len(revocation.Application) != 1 || !g.Synced() {
		t.Errorf("after a snapshot: a revoked %t, %d applications, synced %t; want true, 1, true", g.revoked("a"), g.Set().Len(revocation.Application), g.Synced())
	}
	close(cut)
	g.refuses("c")
	g.refuses("d")
	if diff := cmp.Diff([]string{"", "e:3"}, s.asked()); diff != "" {
		t.Errorf("Last-Event-ID (-want +got):\n%s", diff)
	}
	gatetest.Eventually(t, "six messages", func() bool { return g.count(applied) == 6 })
	if got, want := g.Status().Position, (revocation.Position{Epoch: "e", Seq: 5}); got != want {
		t.Errorf("Position = %v, want %v", got, want)
	}
	for _, message := range []string{"stream of revocations is open", "no stream of revocations"} {
		g.log.Wait(t, message)
	}
}

// The last 20 revocations that came one by one are kept for operators, the newest first.
func TestLastEvents(t *testing.T) {
	s := newIssuer(t, func(c *connection) {
		c.begin()
		c.snapshot(1, token("a"))
		c.heartbeat(1)
		for i := range 21 {
			c.set(i+2, application(fmt.Sprint("client-", i)))
		}
		c.idle()
	})
	g := s.follow(t)
	gatetest.Eventually(t, "all revocations", func() bool { return g.Set().Len(revocation.Application) == 21 })
	gatetest.Eventually(t, "all messages", func() bool { return g.count(applied) == 23 })
	events := g.Status().Events
	if len(events) != mostRecent || events[0].Entry.Subject != "client-20" || events[mostRecent-1].Entry.Subject != "client-1" || time.Since(events[0].Time) > time.Minute {
		t.Errorf("Events = %v, want client-20 to client-1", events)
	}
}

// A message after a gap has no effect, and the next stream begins at the position before the gap.
func TestGap(t *testing.T) {
	for name, send := range map[string]func(c *connection){
		"set":           func(c *connection) { c.set(3, token("b")) },
		"batch":         func(c *connection) { c.batch(M{"after": 2, "seq": 3, "entries": []any{token("b")}}) },
		"heartbeat":     func(c *connection) { c.heartbeat(2) },
		"another epoch": func(c *connection) { c.set(2, token("b"), M{"epoch": "f"}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newIssuer(t, func(c *connection) {
				c.begin()
				switch c.n {
				case 0:
					c.snapshot(1, token("a"))
					c.heartbeat(1)
					send(c)
				case 1, 2: // the same message again
					send(c)
				default:
					c.batch(M{"epoch": "f", "seq": 9, "snapshot": 1, "last": true, "entries": []any{token("b")}})
					c.batch(M{"epoch": "f", "after": 9, "seq": 9})
				}
				c.idle()
			})
			g := s.follow(t)
			g.refuses("b")
			g.current()
			if got := s.asked(); len(got) < 4 || got[1] != "e:1" || got[len(got)-1] != "" || !g.revoked("a") {
				t.Errorf("Last-Event-ID %q, a revoked %t; want e:1, then none for a snapshot, and a still revoked", got, g.revoked("a"))
			}
			if got := g.count(gap); got != 3 {
				t.Errorf("%v gaps, want 3", got)
			}
		})
	}
}

// A heartbeat below the position of the gate does not make the set complete: this issuer has read less of the
// log than the gate.
func TestIssuerBehind(t *testing.T) {
	more := make(chan struct{})
	s := newIssuer(t, func(c *connection) {
		c.begin()
		if c.n == 0 {
			c.snapshot(2, token("a"), token("b"))
			return
		}
		c.heartbeat(1)
		<-more
		c.heartbeat(2)
		c.idle()
	})
	g := s.follow(t)
	g.refuses("b")
	gatetest.Eventually(t, "the second stream", func() bool { return g.count(applied) >= 2 })
	if err := g.Current(); err == nil || g.Synced() {
		t.Errorf("Current = %v, Synced = %t after a heartbeat below the position, want an error and false", err, g.Synced())
	}
	close(more)
	g.current()
}

// A database that was restored from a backup has a shorter log, which its issuer sends as a snapshot. The gate follows the
// shorter log and keeps its revocations.
func TestRestoredLog(t *testing.T) {
	s := newIssuer(t, func(c *connection) {
		c.begin()
		if c.n == 0 {
			c.snapshot(9, token("a"))
			return
		}
		c.snapshot(4)
		c.heartbeat(4)
		c.set(5, token("b"))
		c.idle()
	})
	g := s.follow(t)
	g.refuses("b")
	g.current()
	if got := g.Status().Position.Seq; got != 5 || !g.revoked("a") {
		t.Errorf("position %d, a revoked %t; want 5, true", got, g.revoked("a"))
	}
}

// A message that is not the issuer's, or breaks the protocol, ends the stream and has no effect.
func TestInvalidMessages(t *testing.T) {
	b := []any{token("b")}
	for name, tt := range map[string]struct {
		send  func(c *connection)
		cause string
	}{
		"wrong key": {func(c *connection) {
			c.event(revocation.BatchEvent, other.Token(M{"iss": issuer, "iat": 1e9, "epoch": "e", "after": 1, "seq": 2, "entries": b}, M{"typ": revocation.BatchType}))
		}, "verifying signature"},
		"access token as set": {func(c *connection) {
			c.event(revocation.SetEvent, key.Token(M{"iss": issuer, "iat": 1e9, "epoch": "e", "after": 1, "seq": 2, "entry": b[0], "events": M{revocation.SessionRevoked: M{}}}))
		}, "typ"},
		"set as batch": {func(c *connection) {
			c.event(revocation.BatchEvent, key.Token(M{"iss": issuer, "iat": 1e9, "epoch": "e", "after": 1, "seq": 2, "entries": b}, M{"typ": revocation.SetType}))
		}, "typ"},
		"no typ":               {func(c *connection) { c.batch(M{"after": 1, "seq": 2, "entries": b}, M{"typ": nil}) }, "typ"},
		"alg none":             {func(c *connection) { c.batch(M{"after": 1, "seq": 2, "entries": b}, M{"alg": "none"}) }, "alg"},
		"another issuer":       {func(c *connection) { c.batch(M{"iss": issuer + "/", "after": 1, "seq": 2, "entries": b}) }, "iss"},
		"no iss":               {func(c *connection) { c.batch(M{"iss": nil, "after": 1, "seq": 2, "entries": b}) }, "iss"},
		"no iat":               {func(c *connection) { c.batch(M{"iat": nil, "after": 1, "seq": 2, "entries": b}) }, "iat"},
		"iat before":           {func(c *connection) { c.iat = c.iat.Add(-time.Second); c.heartbeat(1) }, "iat"},
		"after above seq":      {func(c *connection) { c.batch(M{"after": 1, "seq": 0, "entries": b}) }, "above"},
		"epoch with a colon":   {func(c *connection) { c.batch(M{"epoch": "e:1", "after": 1, "seq": 2, "entries": b}) }, "position"},
		"no epoch":             {func(c *connection) { c.batch(M{"epoch": nil, "after": 1, "seq": 2, "entries": b}) }, "position"},
		"negative seq":         {func(c *connection) { c.batch(M{"after": 1, "seq": -2, "entries": b}) }, "claims"},
		"unknown kind":         {func(c *connection) { c.batch(M{"after": 1, "seq": 2, "entries": []any{token("b"), M{"device": "x"}}}) }, "claims"},
		"two kinds":            {func(c *connection) { c.set(2, M{"application": "x", "partner": "y", "issued_by": 1}) }, "claims"},
		"no entry":             {func(c *connection) { c.set(2, nil, M{"entry": nil}) }, "subject"},
		"another event":        {func(c *connection) { c.set(2, b[0], M{"events": M{"https://example.com/other": M{}}}) }, "session-revoked"},
		"two events":           {func(c *connection) { c.set(2, b[0], M{"events": M{revocation.SessionRevoked: M{}, "x": M{}}}) }, "session-revoked"},
		"snapshot without one": {func(c *connection) { c.batch(M{"seq": 2, "snapshot": 2, "last": true, "entries": b}) }, "part 2"},
		"last without number":  {func(c *connection) { c.batch(M{"seq": 2, "last": true, "entries": b}) }, "snapshot is 0"},
		"part left out": {func(c *connection) {
			c.batch(M{"seq": 2, "snapshot": 1})
			c.batch(M{"seq": 2, "snapshot": 3, "entries": b})
		}, "part 3"},
		"parts of two snapshots": {func(c *connection) {
			c.batch(M{"seq": 2, "snapshot": 1})
			c.batch(M{"seq": 3, "snapshot": 2, "entries": b})
		}, "different positions"},
		"heartbeat in a snapshot": {func(c *connection) { c.batch(M{"seq": 2, "snapshot": 1}); c.heartbeat(1) }, "last part"},
		"set in a snapshot":       {func(c *connection) { c.batch(M{"seq": 2, "snapshot": 1}); c.set(2, b[0]) }, "inside a snapshot"},
		"too many entries": {func(c *connection) {
			c.batch(M{"after": 1, "seq": 2000, "entries": slicesRepeat(M{"application": "x", "issued_by": 1}, revocation.BatchSize+1)})
		}, "more than"},
		"unknown event": {func(c *connection) { c.event("revoke", "x") }, "unknown name"},
		"no event name": {func(c *connection) { c.raw("data: x\n\n") }, "unknown name"},
		"garbage":       {func(c *connection) { c.event(revocation.SetEvent, "garbage") }, "segments"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newIssuer(t, func(c *connection) {
				c.begin()
				if c.n == 0 {
					c.snapshot(1, token("a"))
					c.heartbeat(1)
					tt.send(c)
				}
				c.idle()
			})
			g := s.follow(t)
			g.lost(tt.cause)
			if g.revoked("b") || !g.revoked("a") || g.count(invalidResult) != 1 {
				t.Errorf("b revoked %t, a revoked %t, %v invalid messages; want false, true, 1", g.revoked("b"), g.revoked("a"), g.count(invalidResult))
			}
			gatetest.Eventually(t, "the next request", func() bool { got := s.asked(); return len(got) == 2 && got[1] == "e:1" })
		})
	}
}

func slicesRepeat(v any, n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// A repeated old message has no effect.
func TestReplay(t *testing.T) {
	s := newIssuer(t, func(c *connection) {
		c.begin()
		c.snapshot(3, token("a"))
		c.set(2, token("b"))
		c.set(3, token("b"))
		c.heartbeat(3)
		c.idle()
	})
	g := s.follow(t)
	g.current()
	if got := g.Status().Position.Seq; got != 3 || !g.revoked("b") {
		t.Errorf("position %d, b revoked %t; want 3, true", got, g.revoked("b"))
	}
}

// The revocations of an incomplete snapshot take effect, and the next stream begins without a position.
func TestCutSnapshot(t *testing.T) {
	s := newIssuer(t, func(c *connection) {
		c.begin()
		if c.n == 0 {
			c.batch(M{"seq": 2, "snapshot": 1, "entries": []any{token("a")}})
			c.raw("event: batch\ndata: ey") // and half a part
			return
		}
		c.idle()
	})
	g := s.follow(t)
	g.refuses("a")
	g.lost("unexpected EOF")
	gatetest.Eventually(t, "the next request", func() bool { got := s.asked(); return len(got) == 2 && got[1] == "" })
	if g.Synced() || g.Current() == nil {
		t.Error("half a snapshot counts as complete")
	}
}

// The gate fetches the key set again for a message that is signed by a new key.
func TestKeyRotation(t *testing.T) {
	next := testpkiSigner()
	var s *issuerServer
	s = newIssuer(t, func(c *connection) {
		c.begin()
		c.snapshot(1, token("a"))
		s.publish(key, next)
		c.event(revocation.BatchEvent, next.Token(M{"iss": issuer, "iat": float64(c.iat.UnixMilli()) / 1e3, "epoch": "e", "after": 1, "seq": 1}, M{"typ": revocation.BatchType}))
		c.idle()
	})
	g := s.follow(t)
	g.current()
	if got := s.asked(); len(got) != 1 {
		t.Errorf("%d streams, want 1", len(got))
	}
}

// A response that exceeds a bound or is not a stream of the feed's events ends the connection.
func TestHostileStreams(t *testing.T) {
	answer := func(header map[string]string, status int) func(c *connection) {
		return func(c *connection) {
			for name, value := range header {
				c.Header().Set(name, value)
			}
			c.WriteHeader(status)
			c.flush()
		}
	}
	stream := func(f func(c *connection)) func(c *connection) { return func(c *connection) { c.begin(); f(c) } }
	for name, tt := range map[string]struct {
		answer func(c *connection)
		cause  string
	}{
		"redirect":        {answer(map[string]string{"Location": "/elsewhere"}, 307), "status 307"},
		"forbidden":       {answer(nil, 403), "status 403"},
		"content type":    {answer(map[string]string{"Content-Type": "text/html"}, 200), "content type"},
		"compressed":      {answer(map[string]string{"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}, 200), "content encoding"},
		"header":          {answer(map[string]string{"Content-Type": "text/event-stream", "X-Long": strings.Repeat("x", 128<<10)}, 200), "exceeded"},
		"long line":       {stream(func(c *connection) { c.raw("data: " + strings.Repeat("x", 10<<20)) }), "too long"},
		"long comment":    {stream(func(c *connection) { c.raw(":" + strings.Repeat("x", 10<<20)) }), "too long"},
		"comments":        {stream(func(c *connection) { c.raw(strings.Repeat(": x\n", 1<<20)) }), "comments"},
		"empty lines":     {stream(func(c *connection) { c.raw(strings.Repeat("\n", 1<<20)) }), "comments"},
		"many fields":     {stream(func(c *connection) { c.raw(strings.Repeat("retry: 1\n", 20) + "\n") }), "lines"},
		"unknown field":   {stream(func(c *connection) { c.raw("evil: 1\n\n") }), "lines"},
		"no data":         {stream(func(c *connection) { c.raw("event: set\n\n") }), "lines"},
		"data twice":      {stream(func(c *connection) { c.raw("data: a\ndata: b\n\n") }), "lines"},
		"carriage return": {stream(func(c *connection) { c.raw("event: set\rdata: a\n\n") }), "too long, or not"},
		"byte order mark": {stream(func(c *connection) { c.raw("\ufeffevent: set\n\n") }), "lines"},
		"nothing":         {stream(func(*connection) {}), "ended the stream"},
		"no answer":       {func(c *connection) { c.idle() }, "sends nothing"},
		"silence":         {stream(func(c *connection) { c.idle() }), "sends nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newIssuer(t, tt.answer)
			g := s.open(t, gateOptions{timing: func(t *timing) { t.silence, t.answer = 200*time.Millisecond, 200*time.Millisecond }})
			g.lost(tt.cause)
			if g.Synced() || g.Current() == nil {
				t.Error("the gate takes its revocations for complete")
			}
		})
	}
}

// An event that arrives byte by byte ends the stream, although the connection is not silent.
func TestSlowEvent(t *testing.T) {
	now := time.Now()
	drip := func(text string, pause time.Duration) error {
		in := &pausingReader{strings.NewReader(text), func() { now = now.Add(pause) }}
		_, err := newEventReader(in, func() time.Time { return now }).next()
		return err
	}
	event := "event: set\ndata: a\n\n"
	if err := drip(event, 5*time.Second); !errors.Is(err, errSlow) {
		t.Errorf("a byte each 5 s: %v, want errSlow", err)
	}
	if err := drip(event, time.Second); err != nil {
		t.Errorf("a byte each second: %v, want no error", err)
	}
	if err := drip(strings.Repeat(":\n", 100)+event, time.Second); err != nil {
		t.Errorf("comments for minutes before an event: %v, want no error", err)
	}
}

// A pausingReader reads a byte at a time, after a pause.
type pausingReader struct {
	*strings.Reader
	pause func()
}

func (p *pausingReader) Read(b []byte) (int, error) {
	p.pause()
	return p.Reader.Read(b[:1])
}

// A snapshot with more than maxParts parts is an error.
func TestEndlessSnapshot(t *testing.T) {
	s := &stream{issuer: issuer, known: newKnowledge(), now: time.Now}
	m := &revocation.Batch{Issuer: issuer, IssuedAt: revocation.Seconds{Time: time.Now()}, Epoch: "e", Seq: 1}
	for m.Snapshot = 1; m.Snapshot <= maxParts; m.Snapshot++ {
		if err := s.applyBatch(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.applyBatch(m); !errors.Is(err, errInvalid) {
		t.Errorf("part %d: %v, want errInvalid", m.Snapshot, err)
	}
}

// A full set is stale at once, and fresh again after the removal of old entries.
func TestFullSet(t *testing.T) {
	s := newIssuer(t, func(c *connection) {
		c.begin()
		c.snapshot(1, token("one too many"))
		c.heartbeat(1)
		c.idle()
	})
	g := s.open(t, gateOptions{stopped: true})
	g.known.set = revocation.NewSetFor(1)
	check(t, g.Set().Add(revocation.Entry{Kind: revocation.Token, Subject: strings.Repeat("x", 32), Until: time.Now().Add(time.Minute)}))
	now := time.Now()
	g.known.completeAt.Store(&now)
	g.Start()
	gatetest.Eventually(t, "a full set", func() bool { return errors.Is(g.Current(), revocation.ErrFull) && g.Status().Full })
	gatetest.Eventually(t, "full messages", func() bool { return g.count(full) >= 2 })
	if g.revoked("one too many") || g.Status().Position.Epoch != "" {
		t.Errorf("revoked %t at %v, want false and no position", g.revoked("one too many"), g.Status().Position)
	}
	g.Set().Sweep(time.Now().Add(2 * time.Minute))
	g.current()
	if !g.revoked("one too many") || g.Status().Full {
		t.Error("the revocation is missing after there was room")
	}
}
