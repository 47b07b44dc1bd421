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
	errNoKey    = errors.New("no private key in PEM form found")
	errParseKey = errors.New("the private key does not parse")
	errTwoKeys  = errors.New("a second private key; which counts cannot be told")
)

// ReadKey returns the one private key in a file, PKCS #8, SEC 1 or PKCS #1, not encrypted.
// Certificates beside it are skipped, and the name of its curve, which openssl writes before
// an EC key. Errors quote nothing of the key.
func ReadKey(file string) (crypto.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParseKey(file, text)
}

// ParseKey is [ReadKey] for the content of the file of that name.
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
			err = errTwoKeys
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Place, err)
		}
		found = key
	}
	if found == nil {
		return nil, none(name, errNoKey)
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
		return nil, fmt.Errorf("expected a private key, found a block of type %q", b.Type)
	}
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return nil, errParseKey
	}
	return signer, nil
}

// ReadKeyPair returns a certificate chain, leaf first, and the private key of its leaf, from
// two files, which may be one. Its Leaf is set. Every certificate must parse: crypto/tls
// itself would leave out what is broken behind the leaf.
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

// ParseKeyPair is [ReadKeyPair] for the contents of the files of those names.
func ParseKeyPair[File ~string](chain File, chainText []byte, key File, keyText []byte) (tls.Certificate, error) {
	if err := checkChain(string(chain), chainText); err != nil {
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

// checkChain returns an error unless text holds certificates that parse, at least one. The
// private key may stand among them, in a file that serves for both.
func checkChain(name string, text []byte) error {
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
			return fmt.Errorf("%s: expected certificates, found a block of type %q", b.Place, b.Type)
		}
	}
	if !found {
		return none(name, errNoCertificate)
	}
	return nil
}
