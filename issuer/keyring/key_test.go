package keyring

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"io"
	"math/big"
	"testing"

	"github.com/tallygate/tallygate/config"
)

// A publicSigner is a signer whose private key is unknown.
type publicSigner struct{ public crypto.PublicKey }

func (s publicSigner) Public() crypto.PublicKey { return s.public }

func (publicSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	panic("no private key")
}

// The kid of a key is its thumbprint, as in the examples of the RFCs.
func TestKeyIDs(t *testing.T) {
	decode := func(text string) []byte {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	modulus := "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64" +
		"tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI" +
		"SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	for _, test := range []struct {
		source    string
		public    crypto.PublicKey
		algorithm config.Algorithm
		want      string
	}{
		{"RFC 7638 section 3.1", &rsa.PublicKey{N: new(big.Int).SetBytes(decode(modulus)), E: 65537}, config.RS256, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{"RFC 8037 appendix A.3", ed25519.PublicKey(decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")), config.EdDSA, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		k, err := newKey(publicSigner{test.public}, test.algorithm)
		if err != nil || k.id != test.want {
			t.Errorf("%s: newKey returned %+v, %v; want the kid %s", test.source, k, err, test.want)
		}
	}
}
