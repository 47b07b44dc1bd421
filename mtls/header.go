package mtls

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/cache"
)

// longestChain is the most certificates that one header may hold: a leaf, and more
// authorities than any chain has in use.
const maxCertificates = 10

// Why a header is refused. The texts are fixed: nothing of the header is quoted.
var (
	errRepeated    = errors.New("a certificate header comes more than once")
	errChainAlone  = errors.New("a chain comes without its certificate")
	errDisagree    = errors.New("two certificate headers name two certificates")
	errByteSeq     = errors.New("the certificate header is not a byte sequence of base64 between colons")
	errPEM         = errors.New("the certificate header is neither PEM nor base64")
	errCertificate = errors.New("the certificate header holds what is no certificate")
	errKey         = errors.New("the certificate header holds a certificate with a key of an unknown kind, or too long")
	errLongChain   = errors.New("the certificate header holds too many certificates")
)

// A format is one way to write a client certificate into header fields.
type format struct {
	leaf  string // name of the field with the certificate
	chain string // name of another with its intermediates, "" where there is none
	// parse reads the chain, leaf first, from what these fields hold. It accepts one
	// spelling: what two readers could take for two things is an error.
	parse func(leaf string, chain []string) ([]*x509.Certificate, error)
}

// formatsOf returns the formats in their order in the configuration.
func formatsOf(settings *config.CertificateHeader) []format {
	all := map[config.HeaderFormat]format{
		config.FormatRFC9440: {leaf: "Client-Cert", chain: "Client-Cert-Chain", parse: parseRFC9440},
		config.FormatXFCC:    {leaf: "X-Forwarded-Client-Cert", parse: parseXFCC},
		config.FormatPEM:     {leaf: string(settings.PEMHeader), parse: parsePEM},
	}
	formats := make([]format, len(settings.Formats))
	for i, name := range settings.Formats {
		formats[i] = all[name]
	}
	return formats
}

// passedOn is Client for a certificate in a header. Where r has none, the connection's own
// does not take its place: that is the front proxy's.
func (t *Trust) clientFromHeader(r *http.Request) (*access.Certificate, error) {
	if err := t.frontProxies.admit(r); err != nil {
		return nil, err
	}
	now := time.Now()
	var found *connection
	for i := range t.frontProxies.formats {
		c, err := t.read(&t.frontProxies.formats[i], r.Header, now)
		switch {
		case err != nil:
			return nil, &access.Denial{Reason: access.MalformedRequest, Err: err}
		case c == nil:
		case found == nil:
			found = c
		case found.client.Thumbprint != c.client.Thumbprint:
			return nil, &access.Denial{Reason: access.MalformedRequest, Err: errDisagree}
		}
	}
	if found == nil {
		return nil, errNoClientCertificate
	}
	if err := checkValidity(found.client.Leaf, now); err != nil {
		return nil, err
	}
	return t.evaluate(found, now)
}

// read returns what is known of the certificate that h holds in format f, nil where h has
// none. Like a path, only what leads to an anchor is remembered.
func (t *Trust) read(f *format, h http.Header, now time.Time) (*connection, error) {
	leaf, chain := h[f.leaf], []string(nil)
	if f.chain != "" {
		chain = h[f.chain]
	}
	switch {
	case len(leaf) == 0 && len(chain) == 0:
		return nil, nil
	case len(leaf) == 0:
		return nil, errChainAlone
	case len(leaf) > 1:
		return nil, errRepeated
	}
	key := headerKey(f.leaf, leaf[0], chain)
	if known, ok := t.frontProxies.known.Get(key); ok && known.verification.current(now) {
		return known, nil
	}
	certificates, err := f.parse(leaf[0], chain)
	if err != nil {
		return nil, err
	}
	if len(certificates) > maxCertificates {
		return nil, errLongChain
	}
	c := t.newConnection(certificates, now)
	if len(c.verification.anchors) > 0 {
		t.frontProxies.known.Add(key, c, c.verification.owner(), c.bytes(), c.verification.until)
	}
	return c, nil
}

// sum returns the SHA-256 of a field's name and all that stands in it and in the one of
// its chain. The lines of a message have no line ends within, so that no two headers are
// the same text.
func headerKey(name, leaf string, chain []string) cache.Key {
	var room [4 << 10]byte // on the stack; longer ones are rare
	text := append(append(append(room[:0], name...), '\n'), leaf...)
	for _, line := range chain {
		text = append(append(text, '\n'), line...)
	}
	return sha256.Sum256(text)
}

// Shown returns the certificate that came with r as that of its client, judged or not, for
// logs; nil for none. What a stranger put into a header is none.
func (t *Trust) PeerCertificate(r *http.Request) *x509.Certificate {
	if t.frontProxies == nil {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return nil
		}
		return r.TLS.PeerCertificates[0]
	}
	if t.frontProxies.admit(r) != nil {
		return nil
	}
	for i := range t.frontProxies.formats {
		if c, err := t.read(&t.frontProxies.formats[i], r.Header, time.Now()); err == nil && c != nil {
			return c.client.Leaf
		}
	}
	return nil
}

// parseRFC9440 reads Client-Cert, a byte sequence that is no list (RFC 9440 section 2.2),
// and Client-Cert-Chain, a list of them (section 2.3).
func parseRFC9440(leaf string, chain []string) ([]*x509.Certificate, error) {
	items := []string{leaf}
	for _, line := range chain {
		for item := range strings.SplitSeq(line, ",") {
			items = append(items, strings.Trim(item, " \t")) // RFC 8941 section 3.1
		}
	}
	if len(items) > maxCertificates {
		return nil, errLongChain
	}
	certificates := make([]*x509.Certificate, len(items))
	for i, item := range items {
		inner, first := strings.CutPrefix(item, ":")
		inner, last := strings.CutSuffix(inner, ":")
		if !first || !last {
			return nil, errByteSeq
		}
		var err error
		if certificates[i], err = parseBase64(inner); err != nil {
			return nil, err
		}
	}
	return certificates, nil
}

// parsePEM reads percent-encoded PEM, leaf first, or the base64 of each certificate with
// commas between. A plus sign stands for itself.
func parsePEM(text string, _ []string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(text)
	if err != nil || text == "" {
		return nil, errPEM
	}
	if strings.HasPrefix(text, "-----BEGIN") {
		return parseBlocks(text)
	}
	items := strings.Split(text, ",")
	if len(items) > maxCertificates {
		return nil, errLongChain
	}
	certificates := make([]*x509.Certificate, len(items))
	for i, item := range items {
		if certificates[i], err = parseBase64(item); err != nil {
			return nil, err
		}
	}
	return certificates, nil
}

// parseBlocks reads PEM with nothing but certificates in it: no other blocks, no headers
// in them, no text between.
func parseBlocks(text string) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for rest := []byte(text); len(rest) > 0; {
		if !strings.HasPrefix(string(rest), "-----BEGIN CERTIFICATE-----") {
			return nil, errPEM
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return nil, errPEM
		}
		c, err := parseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if certificates = append(certificates, c); len(certificates) > maxCertificates {
			return nil, errLongChain
		}
		rest = after
	}
	if strings.Count(text, "-----BEGIN") != len(certificates) {
		return nil, errPEM // Decode skips blocks that are broken
	}
	return certificates, nil
}

// parseBase64 reads one certificate in the standard alphabet, padded.
func parseBase64(text string) (*x509.Certificate, error) {
	if strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, errPEM
	}
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errPEM
	}
	return parseCertificate(der)
}

// longestRSA is the longest RSA key in bits that crypto/tls takes in a handshake: longer
// ones cost much to verify by (GO-2023-1987).
const maxRSABits = 8192

// parseCertificate reads a certificate that crypto/tls would take in a handshake.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errCertificate
	}
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return c, nil
	case *rsa.PublicKey:
		if key.N.BitLen() <= maxRSABits {
			return c, nil
		}
	}
	return nil, errKey
}
