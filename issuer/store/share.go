package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// ErrShare says that a client's share of the stored tokens is used up: nothing was stored,
// and a later try succeeds once some of its tokens have expired and been swept.
var ErrShare = errors.New("the client's share of the stored tokens is used up")

const (
	// tokenSpace bounds the stored tokens, in bytes. bbolt's pages are half full at least, so
	// the file needs twice as much for them, 512 MiB, and up to 160 MiB for 2^18 revocations
	// of 300 bytes: the Helm chart's volume of 1 GiB holds both.
	tokenSpace = 256 << 20

	// shareOfFree is the part of the free space that one client may hold: an eighth. A client
	// alone can hold a ninth of tokenSpace, 28 MiB: 50 tokens a second, the default rate, of
	// 300 s, the default lifetime, are 15,000, which leaves 1.9 KB for each. Of 24 h tokens of
	// 600 bytes it is one in two seconds. Each client that takes all it can leaves the next
	// eight ninths of that: after sixteen, (8/9)^16 = 15 % of the space is free, 38 MiB, of
	// which the seventeenth can hold 4. So there is always space for the next.
	shareOfFree = 8

	// tokenOverhead is what a token takes beside its record, in bytes: its key of 32, the
	// entry of 41 by which it is swept, and bbolt's 16 for each of both, rounded up.
	tokenOverhead = 128
)

// usageBucket holds how many bytes of tokens are stored, in all under totalKey and by client
// under clientKey. It changes in the transactions that store and sweep them.
var usageBucket = []byte("usage")

var totalKey = []byte("t")

func clientKey(client string) []byte { return append([]byte("c"), client...) }

// charge counts a new record of a client, or returns an error that wraps ErrShare and changes
// nothing.
func charge(tx *bbolt.Tx, client string, record []byte, space int64) error {
	usage, err := tx.CreateBucketIfNotExists(usageBucket) // a file may be older than it
	if err != nil {
		return broken(err)
	}
	size := int64(len(record) + tokenOverhead)
	total, own := amount(usage, totalKey), amount(usage, clientKey(client))
	if may := max(0, (space-total)/shareOfFree); own+size > may {
		return fmt.Errorf("%w: it holds %d bytes, and may hold %d", ErrShare, own, may)
	}
	return errors.Join(setAmount(usage, totalKey, total+size), setAmount(usage, clientKey(client), own+size))
}

// refund takes the record of a token that is removed off the counts. Tokens from before there
// were counts name no client, and are not among them.
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
		return broken(usage.Delete(key))
	}
	return broken(usage.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n))))
}
