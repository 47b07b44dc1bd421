package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Keys returns the signing keys in the order in which they were stored.
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

// errDamaged stands in for an error that might quote a record.
var errDamaged = errors.New("the record is damaged")

// ReplaceKeys stores keys in place of all that were there.
func (f *File) ReplaceKeys(keys []Key) error {
	records := make([][]byte, len(keys))
	for i, k := range keys {
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

// AddToken stores an opaque token.
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

// Revoke stores revocation.
func (f *File) Revoke(revocation Revocation) error {
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
// one without an end has none.
func merge(before, r Revocation) Revocation {
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

// Revocations calls each with every revocation.
func (f *File) Revocations(each func(Revocation) error) error {
	return f.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(revocationBucket).ForEach(func(key, record []byte) error {
			var r Revocation
			if json.Unmarshal(record, &r) != nil {
				return fmt.Errorf("reading a stored revocation: %w", errDamaged)
			}
			r.Subject = string(key[1:])
			return each(r)
		})
	})
}
