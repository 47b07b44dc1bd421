package mtls

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/cache"
)

// maxCertificates bounds the certificates of one chain in a header or a handshake. Chains in use have
// 2 to 4 certificates.
const maxCertificates = 10

// The errors of certificate headers. Their texts quote nothing from the header.
var (
	errRepeated    = errors.New("the request has a certificate header twice")
	errChainAlone  = errors.New("the request has a header with a chain and none with the client certificate")
	errDisagree    = errors.New("two certificate headers of the request have different certificates")
	errByteSeq     = errors.New("the certificate header is not an RFC 8941 byte sequence: base64 between colons")
	errPEM         = errors.New("the certificate header is neither PEM nor base64")
	errCertificate = errors.New("the certificate header contains DER that is not a certificate")
	errUnparsed    = errors.New("the client certificate, or a certificate of its chain, cannot be parsed, so its authority must issue another")
	errKey         = errors.New("the certificate header contains a certificate whose public key has an unknown type or more than 8192 bits")
	errLongChain   = errors.New("the certificate header contains more than 10 certificates")
)

// A format is an encoding of a client certificate in header fields.
type format struct {
	leaf  string // name of the field with the client certificate
	chain string // name of the field with the intermediates; "" if the format has none
	// parse returns the chain, leaf first, from the values of the fields. It accepts exactly one
	// spelling of each chain, so that no other parser reads a different certificate from the same
	// text.
	parse func(leaf string, chain []string) ([]*x509.Certificate, error)
}

// formatsOf returns the formats in the order of the configuration.
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

// clientFromHeader is [Trust.Client] for a certificate in a header. If r has no such header,
// clientFromHeader does not use the certificate of the connection, which belongs to the front proxy.
func (t *Trust) clientFromHeader(r *http.Request) (*access.Certificate, error) {
	if err := t.frontProxies.admit(r); err != nil {
		return nil, err
	}
	now := t.now()
	var found *connection
	for i := range t.frontProxies.formats {
		c, err := t.fromHeader(&t.frontProxies.formats[i], r.Header, now)
		switch {
		case err != nil:
			return nil, headerDenial(err)
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

// headerDenial returns the denial for a certificate header that failed to parse with err.
func headerDenial(err error) error {
	reason := access.MalformedRequest
	if errors.Is(err, errUnparsed) || errors.Is(err, errKey) { // the front proxy forwarded a certificate that the client sent
		reason = access.UntrustedCertificate
	}
	return &access.Denial{Reason: reason, Err: err}
}

// fromHeader returns the client certificate in h, in format f, with the verification of the
// certificate. It returns nil if h has no field of f, or has an empty field: some front proxies send
// an empty field for a client without a certificate, or without intermediates. Only certificates that
// chain to an anchor are cached, as in [Trust.verification].
func (t *Trust) fromHeader(f *format, h http.Header, now time.Time) (*connection, error) {
	leaf, chain := lines(h, f.leaf), []string(nil)
	if f.chain != "" {
		chain = lines(h, f.chain)
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

// lines returns the lines of the field name in h, and no lines if the only line is empty.
func lines(h http.Header, name string) []string {
	if values := h[name]; len(values) != 1 || values[0] != "" {
		return values
	}
	return nil
}

// headerKey returns the SHA-256 of the name and value of a field and the values of its chain field,
// separated by line ends. Values contain no line ends, so different headers have different keys.
func headerKey(name, leaf string, chain []string) cache.Key {
	var buffer [4 << 10]byte // on the stack; only longer headers, which are rare, need an allocation
	text := append(append(append(buffer[:0], name...), '\n'), leaf...)
	for _, line := range chain {
		text = append(append(text, '\n'), line...)
	}
	return sha256.Sum256(text)
}

// PeerCertificate returns the client certificate of r for logs, whether or not it is trusted. It
// returns nil if r has no client certificate. A certificate header is used only if the sender of the
// header is a trusted front proxy.
func (t *Trust) PeerCertificate(r *http.Request) *x509.Certificate {
	if t.frontProxies != nil {
		if c := t.headerConnection(r); c != nil {
			return c.client.Leaf
		}
		return nil
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// Presented returns the certificate of [Trust.PeerCertificate] with the anchors that it chains to. It may be
// revoked. For an expired certificate, Anchors are the anchors to which it chained at its NotAfter. The
// result is for the labels of logs and metrics. Without a front proxy, a connection is verified once for all
// its requests.
func (t *Trust) Presented(r *http.Request) *access.Certificate {
	leaf := t.PeerCertificate(r)
	switch now := t.now(); {
	case leaf == nil:
		return nil
	case now.After(leaf.NotAfter) && t.frontProxies == nil:
		return t.PresentedChain(r.TLS.PeerCertificates)
	case now.After(leaf.NotAfter):
		return t.PresentedChain([]*x509.Certificate{leaf})
	case t.frontProxies != nil:
		return t.headerConnection(r).client
	default:
		return t.connection(r.TLS, now).client
	}
}

// PresentedChain is [Trust.Presented] for a chain that a client presented in a handshake, its own certificate
// first. It verifies the chain each time.
func (t *Trust) PresentedChain(chain []*x509.Certificate) *access.Certificate {
	leaf, now := chain[0], t.now()
	if now.After(leaf.NotAfter) { // not cached, because the verification is for the time NotAfter and not for now
		now = leaf.NotAfter
	}
	client := access.NewCertificate(leaf)
	client.Anchors = t.verifyChains(chain, now).anchors
	return client
}

// headerConnection returns the certificate in a header of a trusted front proxy, or nil.
func (t *Trust) headerConnection(r *http.Request) *connection {
	if t.frontProxies.admit(r) != nil {
		return nil
	}
	for i := range t.frontProxies.formats {
		if c, err := t.fromHeader(&t.frontProxies.formats[i], r.Header, t.now()); err == nil && c != nil {
			return c
		}
	}
	return nil
}

// parseRFC9440 parses Client-Cert, a single byte sequence (RFC 9440 section 2.2), and
// Client-Cert-Chain, a list of byte sequences (section 2.3).
func parseRFC9440(leaf string, chain []string) ([]*x509.Certificate, error) {
	items := []string{leaf}
	for _, line := range chain {
		for item := range strings.SplitSeq(line, ",") {
			items = append(items, strings.Trim(item, " \t")) // RFC 8941 section 3.1 allows white space around the commas
		}
	}
	for i, item := range items {
		inner, first := strings.CutPrefix(item, ":")
		inner, last := strings.CutSuffix(inner, ":")
		if !first || !last {
			return nil, errByteSeq
		}
		items[i] = inner
	}
	return parseItems(items)
}

// parsePEM parses percent-encoded PEM with the leaf first, or certificates in base64 separated by
// commas. It does not decode a plus sign to a space, because base64 contains plus signs.
func parsePEM(text string, _ []string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(text)
	if err != nil || text == "" {
		return nil, errPEM
	}
	if strings.HasPrefix(text, "-----BEGIN") {
		return parseBlocks(text)
	}
	return parseItems(strings.Split(text, ","))
}

// parseItems parses the certificates in items, each in base64.
func parseItems(items []string) (certificates []*x509.Certificate, err error) {
	if len(items) > maxCertificates {
		return nil, errLongChain
	}
	certificates = make([]*x509.Certificate, len(items))
	for i, item := range items {
		if certificates[i], err = parseBase64(item); err != nil {
			return nil, err
		}
	}
	return certificates, nil
}

// parseBlocks parses PEM that contains only certificates: no other blocks, no headers in blocks, and
// no text between blocks.
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
		return nil, errPEM // pem.Decode skips malformed blocks
	}
	return certificates, nil
}

// parseBase64 parses one certificate in base64 with padding (RFC 4648 section 4).
func parseBase64(text string) (*x509.Certificate, error) {
	if strings.ContainsAny(text, "\r\n") { // the decoder would skip line ends
		return nil, errPEM
	}
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errPEM
	}
	return parseCertificate(der)
}

// maxRSABits is the limit of crypto/tls for RSA keys in handshakes, because signatures by longer keys
// are expensive to verify (GO-2023-1987).
const maxRSABits = 8192

// explainUnparsed returns our error for der, which crypto/x509 refuses with err. If der is a DER
// sequence, the error says that the certificate breaks RFC 5280. Other bytes cannot come from the
// handshake of a TLS client.
func explainUnparsed(der []byte, err error) error {
	var sequence asn1.RawValue
	rest, fault := asn1.Unmarshal(der, &sequence)
	if fault != nil || len(rest) > 0 || sequence.Tag != asn1.TagSequence || !sequence.IsCompound {
		return errCertificate
	}
	cause, _, _ := strings.Cut(err.Error(), `"`) // the quoted text is from the certificate
	return fmt.Errorf("%w: %s", errUnparsed, cause)
}

// parseCertificate parses a certificate that crypto/tls would accept in a handshake.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, explainUnparsed(der, err)
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
