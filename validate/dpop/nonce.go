package dpop

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// nonceLifetime is how long a nonce is accepted. When a client sends a proof whose nonce is older
// than half of nonceLifetime, the answer has a new nonce.
const nonceLifetime = 5 * time.Minute

const (
	nonceTime = 8  // bytes, Unix nanoseconds
	nonceMAC  = 16 // bytes; an online attacker cannot guess 128 bits
)

// nonces makes and checks nonces, RFC 9449 section 8. A nonce is a time and the HMAC of this time by
// a key of the process. So the process stores no nonces, and no other process accepts its nonces.
type nonces struct{ key [sha256.Size]byte }

func newNonces() *nonces {
	n := &nonces{}
	_, _ = rand.Read(n.key[:]) // rand.Read never fails
	return n
}

func (n *nonces) next(now time.Time) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceTime+nonceMAC), uint64(now.UnixNano()))
	return encoding.EncodeToString(n.sign(b))
}

// sign appends the HMAC of b to b.
func (n *nonces) sign(b []byte) []byte {
	h := hmac.New(sha256.New, n.key[:])
	h.Write(b)
	return append(b, h.Sum(nil)[:nonceMAC]...)
}

// age returns the age of nonce, at least 1 ns, and whether this process made nonce and still accepts
// it.
func (n *nonces) age(nonce string, now time.Time) (time.Duration, bool) {
	b, err := decode(nonce)
	if err != nil || len(b) != nonceTime+nonceMAC {
		return 0, false
	}
	if !hmac.Equal(b, n.sign(b[:nonceTime:nonceTime])) {
		return 0, false
	}
	age := now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(b))))
	if age >= nonceLifetime {
		return 0, false
	}
	return max(age, 1), true // at least 1, because the clock may have been set back
}
