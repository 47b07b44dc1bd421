package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

const (
	// defaultTokenBytes bounds the stored tokens. bbolt's pages are at least half full, so the tokens
	// take up to twice as much in the file, 512 MiB. A revocation of a token has 33 bytes of key, 42
	// bytes in expiryBucket, 16 bytes of bbolt for each of the two, and a record of about 70 bytes, in
	// all less than 200 bytes. So 2^20 revocations take up to 400 MiB more. Together, and with the audit, they
	// fit into the Helm chart's volume of 1 GiB.
	defaultTokenBytes = 256 << 20

	// freeShare says which part of the free space one client may use: an eighth. A client alone can
	// use a ninth of defaultTokenBytes, 28 MiB. At the default rate of 50 tokens a second and the
	// default lifetime of 300 s these are 15,000 tokens of up to 1.9 KB. With a lifetime of 24 h
	// these are tokens of 600 bytes, one every two seconds. A client that uses its whole share leaves
	// 8/9 of the space that was free before. After sixteen such clients (8/9)^16 = 15 % of the space
	// is free, 38 MiB, and a seventeenth client can use 4 MiB. So there is always space for another
	// client.
	freeShare = 8

	// tokenOverhead is the space that a token takes in addition to its record: 32 bytes of key, 41
	// bytes of entry in expiryBucket, and 16 bytes of bbolt for each of the two, 32 + 41 + 2 × 16 =
	// 105 bytes, rounded up.
	tokenOverhead = 128
)

// usageBucket has the bytes of stored tokens: the total under totalKey, and the bytes of each client
// under clientKey. The transactions that store and sweep tokens update usageBucket.
var usageBucket = []byte("usage")

var totalKey = []byte("t")

func clientKey(client string) []byte { return append([]byte("c"), client...) }

// charge adds the size of a new record to the client's usage. If its error wraps ErrShare, it has
// changed nothing.
func charge(tx *bbolt.Tx, client string, record []byte, space int64) error {
	usage, err := tx.CreateBucketIfNotExists(usageBucket) // files of earlier versions do not have the bucket
	if err != nil {
		return abort(err)
	}
	size := int64(len(record) + tokenOverhead)
	total, own := amount(usage, totalKey), amount(usage, clientKey(client))
	if limit := max(0, (space-total)/freeShare); own+size > limit {
		return fmt.Errorf("%w: it holds %d bytes, and may hold %d", ErrShare, own, limit)
	}
	return errors.Join(setAmount(usage, totalKey, total+size), setAmount(usage, clientKey(client), own+size))
}

// refund subtracts the size of a removed record from its client's usage. A token that was stored
// before usage was counted names no client, so refund does nothing for it.
func refund(tx *bbolt.Tx, record []byte) error {
	var token Token
	usage := tx.Bucket(usageBucket)
	if usage == nil || json.Unmarshal(record, &token) != nil || token.Client == "" {
		return nil
	}
	size := int64(len(record) + tokenOverhead)
	for _, key := range [][]byte{totalKey, clientKey(token.Client)} {
		if err := setAmount(usage, key, amount(usage, key)-size); err != nil {
			return err
		}
	}
	return nil
}

func amount(usage *bbolt.Bucket, key []byte) int64 {
	value := usage.Get(key)
	if len(value) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value))
}

func setAmount(usage *bbolt.Bucket, key []byte, n int64) error {
	if n <= 0 {
		return abort(usage.Delete(key))
	}
	return abort(usage.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n))))
}
