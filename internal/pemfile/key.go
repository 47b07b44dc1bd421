package pemfile

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

var (
	errNoKey     = errors.New("no private key in PEM form")
	errParseKey  = errors.New("the private key does not parse")
	errSecondKey = errors.New("the file has a second private key")
)

// ReadKey returns the only private key in a file: PKCS #8, SEC 1 or PKCS #1, unencrypted. It
// skips certificates, and the EC PARAMETERS block that openssl writes before an EC key. Errors
// quote nothing of the key.
func ReadKey(file string) (crypto.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParseKey(file, text)
}

// ParseKey is [ReadKey] for content that was read already. name is the file name for errors.
func ParseKey(name string, text []byte) (crypto.Signer, error) {
	blocks, err := Blocks(name, text)
	if err != nil {
		return nil, err
	}
	var found crypto.Signer
	for _, b := range blocks {
		if b.Type == certificateType || b.Type == "EC PARAMETERS" {
			continue
		}
		key, err := parseKey(b)
		if err == nil && found != nil {
			err = errSecondKey
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Position, err)
		}
		found = key
	}
	if found == nil {
		return nil, missing(name, errNoKey)
	}
	return found, nil
}

func parseKey(b Block) (crypto.Signer, error) {
	var private any
	var err error
	switch b.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errEncrypted
	default:
		return nil, fmt.Errorf("want a private key, found a block of type %q", b.Type)
	}
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return nil, errParseKey
	}
	return signer, nil
}

// ReadKeyPair returns a certificate chain, leaf first, and the private key of the leaf. chain and key
// may name the same file. The field Leaf is set. Every certificate must parse, whereas crypto/tls would
// skip a malformed block after the leaf.
func ReadKeyPair[File ~string](chain, key File) (tls.Certificate, error) {
	chainText, err := os.ReadFile(string(chain))
	if err != nil {
		return tls.Certificate{}, err
	}
	keyText, err := os.ReadFile(string(key))
	if err != nil {
		return tls.Certificate{}, err
	}
	return ParseKeyPair(chain, chainText, key, keyText)
}

// ParseKeyPair is [ReadKeyPair] for contents that were read already.
func ParseKeyPair[File ~string](chain File, chainText []byte, key File, keyText []byte) (tls.Certificate, error) {
	if err := CheckChain(string(chain), chainText); err != nil {
		return tls.Certificate{}, err
	}
	if _, err := ParseKey(string(key), keyText); err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(chainText, keyText)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s: %w", chain, key, err)
	}
	return pair, nil
}

// CheckChain returns an error unless text has at least one certificate and all certificates parse.
// Private keys are allowed, because a file may hold both the chain and the key.
func CheckChain(name string, text []byte) error {
	blocks, err := Blocks(name, text)
	if err != nil {
		return err
	}
	found := false
	for _, b := range blocks {
		switch {
		case b.Type == certificateType:
			if _, err := parseCertificate(b); err != nil {
				return err
			}
			found = true
		case !isKey(b.Type) && b.Type != "EC PARAMETERS":
			return fmt.Errorf("%s: want certificates, found a block of type %q", b.Position, b.Type)
		}
	}
	if !found {
		return missing(name, errNoCertificate)
	}
	return nil
}
