package postgres

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"

	"github.com/tallygate/tallygate/config"
)

// A sealed signing key has a version, the id of the encryption key, a random nonce of AES-GCM, and the
// ciphertext with its tag. The kid of the signing key, the version and the id are authenticated too, so
// that a sealed key cannot be put into the row of another key.
const (
	sealVersion = 1
	sealIDSize  = 8
	sealKeySize = 32 // AES-256
)

var errSealed = errors.New("a signing key in the database cannot be decrypted with the encryption keys")

// A sealer encrypts signing keys with its first key, and decrypts them with every key.
type sealer []sealKey

type sealKey struct {
	id   [sealIDSize]byte // the first bytes of the SHA-256 of the key
	aead cipher.AEAD
}

// newSealer reads the keys in files: base64 of 32 random bytes.
func newSealer(files []config.Path) (sealer, error) {
	var s sealer
	for _, file := range files {
		content, err := os.ReadFile(string(file))
		if err != nil {
			return nil, fmt.Errorf("issuer.database.encryption_keys: %w", err)
		}
		key, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(content)))
		if err != nil || len(key) != sealKeySize {
			return nil, fmt.Errorf("issuer.database.encryption_keys: %q must have the base64 text of 32 random bytes, as from openssl rand -base64 32", file)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block) // which FIPS 140 allows
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(key)
		k := sealKey{aead: aead}
		copy(k.id[:], sum[:])
		s = append(s, k)
	}
	return s, nil
}

// seal encrypts the private key of the signing key kid.
func (s sealer) seal(kid string, private []byte) ([]byte, error) {
	if len(s) == 0 {
		return nil, errors.New("issuer.database.encryption_keys is empty")
	}
	head := append([]byte{sealVersion}, s[0].id[:]...)
	return s[0].aead.Seal(bytes.Clone(head), nil, private, append(head, kid...)), nil
}

// open decrypts sealed, the private key of the signing key kid.
func (s sealer) open(kid string, sealed []byte) ([]byte, error) {
	const head = 1 + sealIDSize
	for _, k := range s {
		if len(sealed) < head || sealed[0] != sealVersion || !bytes.Equal(sealed[1:head], k.id[:]) {
			continue
		}
		private, err := k.aead.Open(nil, nil, sealed[head:], append(bytes.Clone(sealed[:head]), kid...))
		if err != nil {
			return nil, fmt.Errorf("%w: key %s", errSealed, kid)
		}
		return private, nil
	}
	return nil, fmt.Errorf("%w: key %s", errSealed, kid)
}

// isCurrent reports whether sealed was encrypted with the first key.
func (s sealer) isCurrent(sealed []byte) bool {
	return len(s) > 0 && len(sealed) > 1+sealIDSize && bytes.Equal(sealed[1:1+sealIDSize], s[0].id[:])
}
