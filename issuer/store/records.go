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

// Keys returns the signing keys in the order in which they were created.
func (f *File) Keys() (keys []Key, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(keyBucket).ForEach(func(_, record []byte) error {
			var k Key
			if err := json.Unmarshal(record, &k); err != nil {
				return fmt.Errorf("reading a stored key: %w", errDamaged)
			}
			keys = append(keys, k)
			return nil
		})
	})
	return keys, err
}

// ReplaceKeys stores keys in place of all that were there.
func (f *File) ReplaceKeys(keys []Key) error {
	records := make([][]byte, len(keys))
	inOrder := slices.SortedStableFunc(slices.Values(keys), func(a, b Key) int { return a.Created.Compare(b.Created) })
	for i, k := range inOrder {
		record, err := json.Marshal(k)
		if err != nil {
			return fmt.Errorf("encoding a key: %w", err)
		}
		records[i] = record
	}
	return f.update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(keyBucket); err != nil {
			return broken(err)
		}
		bucket, err := tx.CreateBucket(keyBucket)
		if err != nil {
			return broken(err)
		}
		for i, record := range records {
			if err := bucket.Put(binary.BigEndian.AppendUint32(nil, uint32(i)), record); err != nil {
				return broken(err)
			}
		}
		return nil
	})
}

// AddToken stores an opaque token, if its client's share of the space has room for it.
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
			if err := charge(tx, token.Client, record, f.space); err != nil {
				return err
			}
		}
		if err := tokens.Put(sum[:], record); err != nil {
			return broken(err)
		}
		return expire(tx, token.Expires, tokenBucket, sum[:])
	})
}

// Token returns the opaque token stored under sum.
func (f *File) Token(sum [32]byte) (token Token, ok bool, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		record := tx.Bucket(tokenBucket).Get(sum[:])
		if record == nil {
			return nil
		}
		ok = true
		if json.Unmarshal(record, &token) != nil {
			return fmt.Errorf("reading a stored token: %w", errDamaged)
		}
		return nil
	})
	return token, ok && err == nil, err
}

// longestSubject keeps an entry of expiryBucket, which puts 8 + 1 bytes before the kind
// and the subject, within a key of bbolt.
const longestSubject = bbolt.MaxKeySize - 10

// Revoke stores revocation.
func (f *File) Revoke(revocation Revocation) error {
	if len(revocation.Subject) > longestSubject {
		return fmt.Errorf("a subject of %d bytes is longer than %d", len(revocation.Subject), longestSubject)
	}
	key := append([]byte{byte(revocation.Kind)}, revocation.Subject...)
	return f.update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(revocationBucket)
		r := revocation
		if record := bucket.Get(key); record != nil {
			var before Revocation
			if json.Unmarshal(record, &before) != nil {
				return fmt.Errorf("reading a stored revocation: %w", errDamaged)
			}
			r = merge(before, r)
		}
		r.Subject = "" // it is the key, and may be no text
		record, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding a revocation: %w", err)
		}
		if err := bucket.Put(key, record); err != nil {
			return broken(err)
		}
		return expire(tx, r.Until, revocationBucket, key)
	})
}

// merge returns the two revocations of one subject as one: the later times count, and
// one without an end has none. It stays the client's that came first.
func merge(before, r Revocation) Revocation {
	r.Client = before.Client
	if before.IssuedBy.After(r.IssuedBy) {
		r.IssuedBy = before.IssuedBy
	}
	switch {
	case before.Until.IsZero() || r.Until.IsZero():
		r.Until = time.Time{}
	case before.Until.After(r.Until):
		r.Until = before.Until
	}
	return r
}

// Revocations calls each with every revocation, outside of any transaction: each may
// use the state. Whether it sees what is stored meanwhile is open.
func (f *File) Revocations(each func(Revocation) error) error {
	for after := []byte{}; ; {
		some, last, err := f.revocations(after)
		if err != nil || len(some) == 0 {
			return err
		}
		for _, r := range some {
			if err := each(r); err != nil {
				return err
			}
		}
		after = last
	}
}

// revocations returns the next revocations whose keys come after the given one, up to
// mostInOne, and the last one's key.
func (f *File) revocations(after []byte) (some []Revocation, last []byte, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(revocationBucket).Cursor()
		key, record := c.Seek(after)
		if bytes.Equal(key, after) {
			key, record = c.Next()
		}
		for ; key != nil && len(some) < mostInOne; key, record = c.Next() {
			var r Revocation
			if json.Unmarshal(record, &r) != nil {
				return fmt.Errorf("reading a stored revocation: %w", errDamaged)
			}
			r.Subject = string(key[1:])
			some, last = append(some, r), bytes.Clone(key)
		}
		return nil
	})
	return some, last, err
}
