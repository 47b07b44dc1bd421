package httpserver

import (
	"sync"
	"time"
)

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// slack bounds how much earlier than its wanted deadline an operation may time out. The difference is also
// less than an eighth of the remaining time. Within these bounds the previous deadline of the connection
// stays, because setting a deadline costs more than comparing two deadlines.
const slack = time.Second

// A deadline is the read deadline or the write deadline of a connection. The deadline of the connection is
// set only when an operation begins or runs, because many deadlines are replaced before an operation begins.
// Any goroutine may use a deadline.
type deadline struct {
	set func(time.Time) error // sets the deadline of the connection

	mu      sync.Mutex
	wanted  time.Time // zero: no deadline
	fixed   bool      // wanted was set by at, so begin does not move it
	actual  time.Time // the argument of the last call of set
	running bool      // an operation runs
}

// at sets the deadline of the present and of all further operations. The last call wins. The zero time removes it.
func (d *deadline) at(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted, d.fixed = t, !t.IsZero()
	if d.running {
		return d.apply()
	}
	return nil
}

// now sets the deadline of all further operations, and the deadline of the connection at once.
func (d *deadline) now(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	_ = d.apply() // if the connection is closed, the next operation fails
}

// begin must be called before an operation on the connection. Without a deadline of at, the operation may take limit;
// 0 means no limit.
func (d *deadline) begin(limit time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = true
	if limit > 0 && !d.fixed {
		d.wanted = time.Now().Add(limit)
	}
	_ = d.apply() // if the connection is closed, the operation fails too
}

// end must be called after the operation.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = false
}

// within sets a deadline that is between half of limit and limit after now. If the present deadline of the
// connection is in this range, it stays, because setting a deadline costs time.
func (d *deadline) within(now time.Time, limit time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = now.Add(limit)
	if d.actual.After(now.Add(limit/2)) && !d.actual.After(d.wanted) {
		d.wanted = d.actual
	}
}

// renew sets the deadline of the connection to limit from now if no operation runs and the deadline of an
// earlier operation has passed or passes sooner.
func (d *deadline) renew(limit time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running || d.actual.IsZero() {
		return
	}
	if until := time.Now().Add(limit); d.actual.Before(until) {
		d.actual = until
		_ = d.set(until) // if the connection is closed, the write fails
	}
}

// apply sets the deadline of the connection, unless it is close enough to the wanted deadline.
func (d *deadline) apply() error {
	if d.wanted.Equal(d.actual) {
		return nil
	}
	early := d.wanted.Sub(d.actual)
	if !d.actual.IsZero() && !d.wanted.IsZero() && early > 0 && early < slack && early < time.Until(d.wanted)/8 {
		return nil
	}
	d.actual = d.wanted
	return d.set(d.wanted)
}
