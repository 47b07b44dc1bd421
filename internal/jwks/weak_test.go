package jwks

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// lowOrderJWK returns the key with that encoding as a JWK.
func lowOrderJWK(encoding []byte, kid string) M {
	return M{"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "use": "sig", "x": testpki.Segment(encoding)}
}

// forged returns a token without a real signature that crypto/ed25519 verifies with key, "" if
// the encoding is not a point. R is the neutral element and S is 0, so the signature verifies if
// the hash of the message, times the key, is neutral as well: for at least one message in eight.
func forged(key ed25519.PublicKey, kid string) string {
	header := testpki.Segment(gatetest.JSON(M{"alg": "EdDSA", "kid": kid, "typ": "at+jwt"}))
	signature := append([]byte{1}, make([]byte, 63)...)
	for i := range 200 {
		signed := header + "." + testpki.Segment(gatetest.JSON(bound(M{"jti": fmt.Sprint(i)})))
		if ed25519.Verify(key, []byte(signed), signature) {
			return signed + "." + testpki.Segment(signature)
		}
	}
	return ""
}

// T-ADD-14: an Ed25519 key of low order, in each encoding that a decoder accepts, is left out of
// a key set, because forged tokens verify with it.
func TestLowOrderKeys(t *testing.T) {
	good := testpki.NewSigner("EdDSA", "good")
	points := 0
	for _, y := range []string{ // as in RFC 8032 section 5.1.2
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		for _, sign := range []byte{0, 0x80} {
			encoding, err := hex.DecodeString(y)
			if err != nil {
				t.Fatal(err)
			}
			encoding[31] |= sign
			token := forged(encoding, "low")
			if token != "" {
				points++
			} else {
				token = (&testpki.Signer{Key: good.Key, KeyID: "low", Algorithm: "EdDSA"}).Token(bound())
			}
			s := newSource(t, localKeySet(gatetest.KeySet(lowOrderJWK(encoding, "low"), good.JWK())), gatetest.AuthorizationServer())
			expect(t, s, token, access.UnknownKey)
			expect(t, s, good.Token(bound()), access.Granted)
			if _, err := parse(gatetest.KeySet(lowOrderJWK(encoding, "low")), every, ""); err == nil || !strings.Contains(err.Error(), "low order") {
				t.Errorf("parse of key %x alone = %v, want an error about low order", encoding, err)
			}
		}
	}
	if points < 8 {
		t.Errorf("tokens were forged for %d encodings, want at least the 8 points", points)
	}
}

// T-JWKS-09: a key that takes long to verify with is left out, so a token that names it costs nothing.
func TestLongRSAKeys(t *testing.T) {
	good := testpki.NewSigner("PS256", "good")
	for bits, want := range map[int]access.Reason{8192: access.BadSignature, 8200: access.UnknownKey, 65536: access.UnknownKey} {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
		if err != nil {
			t.Fatal(err)
		}
		n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
		long := M{"kty": "RSA", "kid": "long", "n": testpki.Segment(n.Bytes()), "e": "AQAB"}
		s := newSource(t, localKeySet(gatetest.KeySet(long, good.JWK())), gatetest.AuthorizationServer())
		signed := testpki.Segment(gatetest.JSON(M{"alg": "PS256", "kid": "long", "typ": "at+jwt"})) + "." + testpki.Segment(gatetest.JSON(bound()))
		signature := make([]byte, bits/8)
		signature[1] = 1
		expect(t, s, signed+"."+testpki.Segment(signature), want)
		expect(t, s, good.Token(bound()), access.Granted)
	}
}
