package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"go.etcd.io/bbolt"
)

// sweepBatch is the number of removals in one transaction.
const sweepBatch = 1000

// scheduleExpiry adds an entry to expiryBucket, which says that the record under key in bucket
// expires at the time at. If at is zero, the record never expires. An entry is the time in Unix
// seconds, 8 bytes big-endian, then the first letter of the bucket's name, then the key.
func scheduleExpiry(tx *bbolt.Tx, at time.Time, bucket, key []byte) error {
	if at.IsZero() {
		return nil
	}
	entry := binary.BigEndian.AppendUint64(nil, uint64(max(at.Unix(), 0)))
	entry = append(append(entry, bucket[0]), key...)
	return abort(tx.Bucket(expiryBucket).Put(entry, nil))
}

// Sweep removes expired tokens and revocations whose Until is before now, and returns the number of
// removed records. It removes a bounded number of records in each transaction, so that writers wait
// for one transaction at most. If the clock has stepped forward since the last sweep, of an earlier process too, Sweep
// removes only what has expired by the time without the step, and its error wraps [ErrUnavailable]. It follows the
// clock after an hour. A step is visible only if now has a reading of the monotonic clock.
func (f *File) Sweep(now time.Time) (removed int, err error) {
	now, stepped := f.clock.limit(now)
	for first := true; ; first = false {
		var n, seen int
		err := f.update(func(tx *bbolt.Tx) error {
			n, seen = 0, 0
			if first {
				if err := putSwept(tx, now); err != nil {
					return err
				}
			}
			expired := tx.Bucket(expiryBucket).Cursor()
			limit := binary.BigEndian.AppendUint64(nil, uint64(max(now.Unix(), 0)))
			var entries [][]byte
			for k, _ := expired.First(); k != nil && bytes.Compare(k[:8], limit) < 0 && len(entries) < sweepBatch; k, _ = expired.Next() {
				entries = append(entries, bytes.Clone(k))
			}
			for _, entry := range entries {
				deleted, err := remove(tx, entry, now)
				if err != nil {
					return abort(err)
				}
				seen++
				n += deleted
			}
			return nil
		})
		if err != nil {
			return removed, err
		}
		removed += n
		if seen < sweepBatch {
			return removed, stepped
		}
	}
}

// remove removes an entry of expiryBucket and the record that the entry names. If a later revocation
// has extended the record, it removes only the entry. It returns the number of removed records.
func remove(tx *bbolt.Tx, entry []byte, now time.Time) (int, error) {
	if err := tx.Bucket(expiryBucket).Delete(entry); err != nil {
		return 0, err
	}
	name, key := tokenBucket, entry[9:]
	if entry[8] == revocationBucket[0] {
		name = revocationBucket
	}
	bucket := tx.Bucket(name)
	record := bucket.Get(key)
	if record == nil || name[0] == revocationBucket[0] && isRetained(record, now) {
		return 0, nil
	}
	if name[0] == tokenBucket[0] {
		if err := refund(tx, record); err != nil {
			return 0, err
		}
	}
	return 1, bucket.Delete(key)
}

// isRetained reports whether record, a stored revocation, must be kept at now. A corrupt record is
// kept.
func isRetained(record []byte, now time.Time) bool {
	var r Revocation
	return json.Unmarshal(record, &r) != nil || r.Until.IsZero() || r.Until.Unix() >= now.Unix()
}
