package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"go.etcd.io/bbolt"
)

// sweepBatch is how many removals share a transaction.
const sweepBatch = 1000

// expire enters that what stands under key in bucket ends at the given time; the zero
// time is never. An entry is the time, Unix seconds in 8 bytes that sort, then the
// bucket's first letter, then the key.
func expire(tx *bbolt.Tx, at time.Time, bucket, key []byte) error {
	if at.IsZero() {
		return nil
	}
	entry := binary.BigEndian.AppendUint64(nil, uint64(max(at.Unix(), 0)))
	entry = append(append(entry, bucket[0]), key...)
	return broken(tx.Bucket(expiryBucket).Put(entry, nil))
}

// Sweep removes what is over at now.
func (f *File) Sweep(now time.Time) (int, error) {
	removed := 0
	for {
		var n, seen int
		err := f.update(func(tx *bbolt.Tx) error {
			n, seen = 0, 0
			over := tx.Bucket(expiryBucket).Cursor()
			limit := binary.BigEndian.AppendUint64(nil, uint64(max(now.Unix(), 0)))
			var entries [][]byte
			for k, _ := over.First(); k != nil && bytes.Compare(k[:8], limit) < 0 && len(entries) < sweepBatch; k, _ = over.Next() {
				entries = append(entries, bytes.Clone(k))
			}
			for _, entry := range entries {
				gone, err := remove(tx, entry, now)
				if err != nil {
					return broken(err)
				}
				seen++
				n += gone
			}
			return nil
		})
		if err != nil {
			return removed, err
		}
		removed += n
		if seen < sweepBatch {
			return removed, nil
		}
	}
}

// remove removes an entry and what it is about, unless that has been given a later end.
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
	if record == nil || name[0] == revocationBucket[0] && lasts(record, now) {
		return 0, nil
	}
	if name[0] == tokenBucket[0] {
		if err := refund(tx, record); err != nil {
			return 0, err
		}
	}
	return 1, bucket.Delete(key)
}

// lasts reports whether a stored revocation goes on past now. A damaged one does.
func lasts(record []byte, now time.Time) bool {
	var r Revocation
	return json.Unmarshal(record, &r) != nil || r.Until.IsZero() || r.Until.Unix() >= now.Unix()
}
