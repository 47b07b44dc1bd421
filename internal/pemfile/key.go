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
		return nil, missingBlock(name, text, errNoKey)
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
	certificates, err := ParseChain(string(chain), chainText)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := ParseKey(string(key), keyText)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(chainText, keyText)
	if err == nil {
		return pair, nil
	}
	for _, c := range certificates {
		if public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && public.Equal(private.Public()) {
			return tls.Certificate{}, fmt.Errorf("%s: the chain is in the wrong order: the certificate of the key %s must be first", c.Position, key)
		}
	}
	return tls.Certificate{}, fmt.Errorf("%s and %s: %w", chain, key, err)
}

// ReadChain returns the certificates in a file, leaf first, and allows private keys among them.
func ReadChain(file string) ([]Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParseChain(file, text)
}

// ParseChain is [ReadChain] for content that was read already, without a certificate an error. name is
// the file name for errors.
func ParseChain(name string, text []byte) ([]Certificate, error) {
	blocks, err := Blocks(name, text)
	if err != nil {
		return nil, err
	}
	var chain []Certificate
	for _, b := range blocks {
		switch {
		case b.Type == certificateType:
			c, err := parseCertificate(b)
			if err != nil {
				return nil, err
			}
			chain = append(chain, c)
		case !isKey(b.Type) && b.Type != "EC PARAMETERS":
			return nil, fmt.Errorf("%s: want certificates, found a block of type %q", b.Position, b.Type)
		}
	}
	if len(chain) == 0 {
		return nil, missingBlock(name, text, errNoCertificate)
	}
	return chain, nil
}
