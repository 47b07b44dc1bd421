package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// ErrShare means that the client has used its share of the stored tokens. Nothing was stored. A
// retry succeeds after some of its tokens have expired and been swept.
var ErrShare = errors.New("the client's share of the stored tokens is used up")

const (
	// defaultTokenBytes bounds the stored tokens. bbolt's pages are at least half full, so the file
	// needs twice as much for them, 512 MiB, and up to 160 MiB for 2^18 revocations of 300 bytes.
	// Both fit into the Helm chart's volume of 1 GiB.
	defaultTokenBytes = 256 << 20

	// freeShare is the divisor of the free space that one client may hold: an eighth. A client
	// alone can hold a ninth of defaultTokenBytes, 28 MiB. At the default rate of 50 tokens a
	// second and the default lifetime of 300 s these are 15,000 tokens of up to 1.9 KB, and with a
	// lifetime of 24 h one token of 600 bytes every two seconds. A client that uses
	// its whole share leaves 8/9 of the space that was free before. After sixteen such clients
	// (8/9)^16 = 15 % of the space is free, 38 MiB, and a seventeenth client can hold 4 MiB. So there
	// is always space for another client.
	freeShare = 8

	// tokenOverhead is the size of a token beside its record: 32 bytes of key, 41 bytes of entry in
	// expiryBucket, and 16 bytes of bbolt for each, rounded up.
	tokenOverhead = 128
)

// usageBucket holds the bytes of stored tokens, in all under totalKey and by client under
// clientKey. The transactions that store and sweep tokens update it.
var usageBucket = []byte("usage")

var totalKey = []byte("t")

func clientKey(client string) []byte { return append([]byte("c"), client...) }

// charge adds a new record to its client's usage. An error that wraps ErrShare changes nothing.
func charge(tx *bbolt.Tx, client string, record []byte, space int64) error {
	usage, err := tx.CreateBucketIfNotExists(usageBucket) // files of earlier versions lack the bucket
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

// refund subtracts a removed record from its client's usage. Tokens stored before usage was
// counted name no client.
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
