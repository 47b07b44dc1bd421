package weakkey

import (
	"crypto/ed25519"
	"encoding/hex"
	"slices"
)

// lowOrder holds the y coordinates, in hexadecimal and little-endian, of the eight points
// of edwards25519 whose order divides the cofactor 8. Two coordinates have a second
// encoding, by y + p, that decoders take as well.
var lowOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000", // 1, order 1
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p - 1, order 2
	"0000000000000000000000000000000000000000000000000000000000000000", // 0, order 4
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p, for 0
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p + 1, for 1
}

// isLowOrder reports whether an Ed25519 key is one of the points of low order, in any
// encoding. For such a key whoever wants finds a signature of any message: where k is the
// hash of R, the key A and the message (RFC 8032 section 5.1.7), kA is the neutral element
// for one hash in eight or more, and then R = SB is a signature without any secret. The top
// bit is the sign of x, and as good as unset here.
func isLowOrder(public ed25519.PublicKey) bool {
	y := slices.Clone(public)
	y[len(y)-1] &= 0x7f
	return slices.Contains(lowOrder, hex.EncodeToString(y))
}
