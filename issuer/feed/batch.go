package feed

import (
	"sync"

	"github.com/tallygate/tallygate/revocation"
)

const (
	// maxContent bounds the entries of a batch in bytes. Base64 makes 360 KiB to 480 KiB, and the rest of a message fits
	// into the 32 KiB up to revocation.MaxEvent.
	maxContent = 360 << 10

	// keptBatches is the number of batches that subscribers at different positions can share.
	keptBatches = 16
)

// A batch is a message with the revocations from after to seq. It is signed when the first subscriber needs it.
type batch struct {
	after, seq uint64
	version    uint64 // of the keys
	claims     revocation.Batch

	once sync.Once
	text []byte
	err  error
}

// newBatch returns a batch of the ring's epoch. The caller holds f.mu.
func (f *Feed) newBatch(after, seq uint64, entries []revocation.Entry) *batch {
	return &batch{after: after, seq: seq, version: f.options.KeyVersion(), claims: revocation.Batch{
		Issuer: f.options.Issuer, IssuedAt: revocation.Seconds{Time: f.issuedAt()}, Epoch: f.ring.epoch, After: after, Seq: seq, Entries: entries,
	}}
}

// batchText returns the text of b.
func (f *Feed) batchText(b *batch) ([]byte, error) {
	b.once.Do(func() {
		id := revocation.Position{Epoch: b.claims.Epoch, Seq: b.seq}
		b.text, b.err = f.sign(revocation.BatchEvent, revocation.BatchType, id, b.claims)
		b.claims.Entries = nil
	})
	return b.text, b.err
}

// catchUp returns a batch for a subscriber that has read up to seq, which is at the ring's floor or later and before its
// head. Subscribers at the same position share it. The caller holds f.mu.
func (f *Feed) catchUp(seq uint64) *batch {
	version := f.options.KeyVersion()
	for _, b := range f.batches {
		if b.after == seq && b.version == version {
			return b
		}
	}
	events := f.ring.eventsAfter(seq)
	to := f.ring.head
	var entries []revocation.Entry
	size := 0
	for i, e := range events {
		if size += entrySize(&e.entry); i == revocation.BatchSize || i > 0 && size > maxContent {
			to = e.after
			break
		}
		entries = append(entries, e.entry)
	}
	b := f.newBatch(seq, to, entries)
	if len(f.batches) == keptBatches {
		f.batches = f.batches[1:]
	}
	f.batches = append(f.batches, b)
	return b
}

// entrySize bounds the bytes of the JSON form of e: a byte of the subject becomes at most six, as in \u0000, and 120 are
// for the names and the times.
func entrySize(e *revocation.Entry) int { return 6*len(e.Subject) + 120 }
