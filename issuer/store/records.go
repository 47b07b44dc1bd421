package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// Keys returns the signing keys in the order of their creation.
func (f *File) Keys() (keys []Key, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		keys, err = keysIn(tx)
		return err
	})
	return keys, err
}

func keysIn(tx *bbolt.Tx) (keys []Key, err error) {
	err = tx.Bucket(keyBucket).ForEach(func(_, record []byte) error {
		var k Key
		if err := json.Unmarshal(record, &k); err != nil {
			return fmt.Errorf("reading a stored key: %w", errCorrupt)
		}
		keys = append(keys, k)
		return nil
	})
	return keys, err
}

// ReplaceKeys replaces the stored keys. The error is [ErrChanged] if the stored keys are not previous.
func (f *File) ReplaceKeys(previous, keys []Key) error {
	records := make([][]byte, len(keys))
	sorted := slices.SortedStableFunc(slices.Values(keys), func(a, b Key) int { return a.Created.Compare(b.Created) })
	for i, k := range sorted {
		record, err := json.Marshal(k)
		if err != nil {
			return fmt.Errorf("encoding a key: %w", err)
		}
		records[i] = record
	}
	return f.update(func(tx *bbolt.Tx) error {
		stored, err := keysIn(tx)
		switch {
		case err != nil:
			return err
		case !SameKeys(stored, previous):
			return ErrChanged
		}
		if err := tx.DeleteBucket(keyBucket); err != nil {
			return abort(err)
		}
		bucket, err := tx.CreateBucket(keyBucket)
		if err != nil {
			return abort(err)
		}
		for i, record := range records {
			if err := bucket.Put(binary.BigEndian.AppendUint32(nil, uint32(i)), record); err != nil {
				return abort(err)
			}
		}
		return nil
	})
}

// AddToken stores an opaque token under sum, the SHA-256 of its text. The error is [ErrExists] if sum
// is already stored, and wraps [ErrShare] if the token's client has used its share of the space.
func (f *File) AddToken(sum [32]byte, token Token) error {
	record, err := json.Marshal(token)
	if err != nil {
		return fmt.Errorf("encoding a token: %w", err)
	}
	return f.update(func(tx *bbolt.Tx) error {
		tokens := tx.Bucket(tokenBucket)
		if tokens.Get(sum[:]) != nil {
			return ErrExists
		}
		if token.Client != "" {
			if err := charge(tx, token.Client, record, f.maxTokenBytes); err != nil {
				return err
			}
		}
		if err := tokens.Put(sum[:], record); err != nil {
			return abort(err)
		}
		return scheduleExpiry(tx, token.Expires, tokenBucket, sum[:])
	})
}

// Token returns the opaque token that is stored under sum, and whether there is such a token. The
// token may have expired.
func (f *File) Token(sum [32]byte) (token Token, ok bool, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		record := tx.Bucket(tokenBucket).Get(sum[:])
		if record == nil {
			return nil
		}
		ok = true
		if json.Unmarshal(record, &token) != nil {
			return fmt.Errorf("reading a stored token: %w", errCorrupt)
		}
		return nil
	})
	return token, ok && err == nil, err
}

// Tokens calls yield with every opaque token and the sum under which it is stored. Like Revocations, it
// calls yield outside of transactions and stops at the first error.
func (f *File) Tokens(yield func(sum [32]byte, token Token) error) error {
	type stored struct {
		sum   [32]byte
		token Token
	}
	var after []byte
	for {
		var page []stored
		err := f.view(func(tx *bbolt.Tx) error {
			c := tx.Bucket(tokenBucket).Cursor()
			key, record := c.Seek(after)
			if after != nil && bytes.Equal(key, after) {
				key, record = c.Next()
			}
			for ; key != nil && len(page) < maxBatch; key, record = c.Next() {
				var token Token
				if json.Unmarshal(record, &token) != nil || len(key) != 32 {
					return fmt.Errorf("reading a stored token: %w", errCorrupt)
				}
				page = append(page, stored{[32]byte(key), token})
			}
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, s := range page {
			if err := yield(s.sum, s.token); err != nil {
				return err
			}
		}
		after = page[len(page)-1].sum[:]
	}
}

// longestSubject is the longest subject whose entry in expiryBucket fits into bbolt's key size: 8
// bytes of time, 1 byte of bucket and 1 byte of kind precede the subject, 10 bytes in all.
const longestSubject = bbolt.MaxKeySize - 10

// Revoke stores revocation. If a revocation with the same kind and subject is already stored, the
// stored revocation gets the later IssuedBy and the later Until of the two. The texts for the audit must pass
// [Revocation.CheckAudit].
func (f *File) Revoke(revocation Revocation) error {
	if len(revocation.Subject) > longestSubject {
		return fmt.Errorf("the subject has %d bytes, more than %d", len(revocation.Subject), longestSubject)
	}
	if err := revocation.CheckAudit(); err != nil {
		return err
	}
	key := append([]byte{byte(revocation.Kind)}, revocation.Subject...)
	var merged Revocation
	return f.updateThen(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(revocationBucket)
		r := revocation
		if record := bucket.Get(key); record != nil {
			var stored Revocation
			if json.Unmarshal(record, &stored) != nil {
				return fmt.Errorf("reading a stored revocation: %w", errCorrupt)
			}
			r = merge(stored, r)
		}
		merged = r
		merged.Subject, merged.Actor, merged.Reason = revocation.Subject, "", ""
		r.Subject = "" // the key has the subject, which may be binary
		record, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding a revocation: %w", err)
		}
		if err := bucket.Put(key, record); err != nil {
			return abort(err)
		}
		if revocation.Actor != "" {
			if err := f.addAudit(tx, &revocation); err != nil {
				return err
			}
		}
		return scheduleExpiry(tx, r.Until, revocationBucket, key)
	}, func() { f.log.add(merged) })
}

// merge returns one revocation for two revocations of one subject. It has the later IssuedBy and the
// later Until; a zero Until means never and is the latest. Its client is the client of the stored
// revocation.
func merge(stored, r Revocation) Revocation {
	r.Client = stored.Client
	if stored.IssuedBy.After(r.IssuedBy) {
		r.IssuedBy = stored.IssuedBy
	}
	switch {
	case stored.Until.IsZero() || r.Until.IsZero():
		r.Until = time.Time{}
	case stored.Until.After(r.Until):
		r.Until = stored.Until
	}
	return r
}

// Revocations calls yield with every revocation. It calls yield outside of transactions, so yield may
// use f. It stops at the first error and returns this error. Revocations that are stored during the
// call may be missing.
func (f *File) Revocations(yield func(Revocation) error) error {
	return f.eachPage(func(page []Revocation) error {
		for _, r := range page {
			if err := yield(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachPage is Revocations with up to maxBatch revocations at once.
func (f *File) eachPage(yield func([]Revocation) error) error {
	for after := []byte{}; ; {
		page, last, err := f.revocations(after)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := yield(page); err != nil {
			return err
		}
		after = last
	}
}

// revocations returns up to maxBatch revocations whose keys come after the key after, and the key of
// the last returned revocation.
func (f *File) revocations(after []byte) (page []Revocation, last []byte, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(revocationBucket).Cursor()
		key, record := c.Seek(after)
		if bytes.Equal(key, after) {
			key, record = c.Next()
		}
		for ; key != nil && len(page) < maxBatch; key, record = c.Next() {
			var r Revocation
			if json.Unmarshal(record, &r) != nil {
				return fmt.Errorf("reading a stored revocation: %w", errCorrupt)
			}
			r.Subject = string(key[1:])
			page, last = append(page, r), bytes.Clone(key)
		}
		return nil
	})
	return page, last, err
}
