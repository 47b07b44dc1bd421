// Package testpki creates certificates, keys, key sets and tokens for tests, both valid and broken. It
// uses only the standard library and shares no code with the code under test, so that tests notice
// faults of that code. Its functions panic on errors. Only tests import this package.
package testpki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// An Option edits a certificate's template before it is signed.
type Option func(*x509.Certificate)

// DNS sets the SAN dNSNames.
func DNS(names ...string) Option {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

// IP sets the SAN iPAddresses.
func IP(addresses ...string) Option {
	return func(c *x509.Certificate) {
		for _, a := range addresses {
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(a))
		}
	}
}

// GeneralName is an entry of a subjectAltName (RFC 5280 section 4.2.1.6): Tag is 1 for an
// rfc822Name, 2 for a dNSName, 6 for a uniformResourceIdentifier, 7 for an iPAddress.
type GeneralName struct {
	Tag     int
	Content string // the octets of the name in its encoded form
}

// SubjectAltNames adds a subjectAltName extension that has names. The octets of each name are encoded
// unchanged, whereas crypto/x509 would write URIs and addresses in its own form.
func SubjectAltNames(names ...GeneralName) Option {
	return func(c *x509.Certificate) {
		if len(names) == 0 {
			return
		}
		list := make([]asn1.RawValue, len(names))
		for i, n := range names {
			list[i] = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: n.Tag, Bytes: []byte(n.Content)}
		}
		extension := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: must(asn1.Marshal(list))}
		c.ExtraExtensions = append(c.ExtraExtensions, extension)
	}
}

// Subject replaces the subject.
func Subject(name pkix.Name) Option {
	return func(c *x509.Certificate) { c.Subject = name }
}

// Valid sets the validity period.
func Valid(from, to time.Time) Option {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}

// Expired sets a validity period that ended an hour ago.
func Expired() Option {
	return Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
}

// PermitDirectory restricts an authority to subjects that begin with name. The name constraints are not
// critical.
func PermitDirectory(name pkix.Name) Option {
	type subtree struct {
		Base pkix.RDNSequence `asn1:"tag:4,explicit"`
	}
	value := must(asn1.Marshal(struct {
		Permitted []subtree `asn1:"tag:0"`
	}{[]subtree{{name.ToRDNSequence()}}}))
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: value})
	}
}

// Keyed sets the key. Without Keyed, the key is a new P-256 key. If key is only a public key, the pair
// gets another private key, and this private key signs a self-signed certificate.
func Keyed(key any) Option {
	return func(c *x509.Certificate) { c.PublicKey = key }
}

// SignedBy sets the signature algorithm.
func SignedBy(algorithm x509.SignatureAlgorithm) Option {
	return func(c *x509.Certificate) { c.SignatureAlgorithm = algorithm }
}

// Usage replaces the extended key usages. Without arguments, the certificate has no extended key usage.
func Usage(usages ...x509.ExtKeyUsage) Option {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
}

// A Pair is a certificate with its private key and the intermediates up to a root.
type Pair struct {
	Cert          *x509.Certificate
	Key           crypto.Signer
	Intermediates []*x509.Certificate
}

// NewCA creates a self-signed authority. Two calls with one name create two authorities with
// different keys.
func NewCA(name string, options ...Option) *Pair {
	return sign(authority(name), nil, options)
}

// SelfSigned creates a self-signed end-entity certificate.
func SelfSigned(name string, options ...Option) *Pair {
	return sign(leaf(name), nil, options)
}

// Leaf creates an end-entity certificate signed by p, for clients and servers.
func (p *Pair) Leaf(name string, options ...Option) *Pair {
	return sign(leaf(name), p, options)
}

// Intermediate creates an authority signed by p. The chains of its leaves contain its certificate.
func (p *Pair) Intermediate(name string, options ...Option) *Pair {
	return sign(authority(name), p, options)
}

// Negative returns p with a negative serial number, signed again by issuer, whose key must be on P-256.
// crypto/x509 parses the certificate only under GODEBUG=x509negativeserial=1; without this setting,
// Cert has only Raw.
func (p *Pair) Negative(issuer *Pair) *Pair {
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	must(asn1.Unmarshal(p.Cert.Raw, &c))
	signed := bytes.Clone(c.TBS.FullBytes)
	number := must(asn1.Marshal(p.Cert.SerialNumber))
	below := bytes.Clone(number)
	below[2] = 0x9a // first content octet, whose highest bit makes the number negative
	signed = bytes.Replace(signed, number, below, 1)
	sum := sha256.Sum256(signed)
	c.TBS = asn1.RawValue{FullBytes: signed}
	c.Signature.Bytes = must(ecdsa.SignASN1(rand.Reader, issuer.Key.(*ecdsa.PrivateKey), sum[:]))
	c.Signature.BitLength = 8 * len(c.Signature.Bytes)
	der := must(asn1.Marshal(c))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		cert = &x509.Certificate{Raw: der}
	}
	return &Pair{Cert: cert, Key: p.Key, Intermediates: p.Intermediates}
}

// Certify returns a certificate for the key public with the fields of template. It is signed with
// private, the key of parent.
func Certify(template, parent *x509.Certificate, public, private any) *x509.Certificate {
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, public, private))))
}

// Pool returns the certificates of pairs as trust anchors for crypto/tls.
func Pool(pairs ...*Pair) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, p := range pairs {
		pool.AddCert(p.Cert)
	}
	return pool
}

// TLS returns p with its intermediates for crypto/tls.
func (p *Pair) TLS() tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key, Leaf: p.Cert}
	for _, i := range p.Intermediates {
		c.Certificate = append(c.Certificate, i.Raw)
	}
	return c
}

// Thumbprint returns the x5t#S256 of the certificate. It computes the thumbprint without the code under
// test.
func (p *Pair) Thumbprint() string {
	sum := sha256.Sum256(p.Cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// CertPEM returns the certificate and its intermediates in PEM.
func (p *Pair) CertPEM() []byte {
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw})
	for _, i := range p.Intermediates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Raw})...)
	}
	return out
}

// KeyPEM returns the private key in PEM, PKCS #8.
func (p *Pair) KeyPEM() []byte {
	der := must(x509.MarshalPKCS8PrivateKey(p.Key))
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Write writes p to dir/name.pem and dir/name-key.pem and returns both paths.
func (p *Pair) Write(dir, name string) (cert, key string) {
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	check(os.WriteFile(cert, p.CertPEM(), 0o600))
	check(os.WriteFile(key, p.KeyPEM(), 0o600))
	return cert, key
}

func authority(name string) *x509.Certificate {
	c := template(name)
	c.IsCA = true
	c.BasicConstraintsValid = true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return c
}

func leaf(name string) *x509.Certificate {
	c := template(name)
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	return c
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}

// sign issues template under parent, or self-signed if parent is nil.
func sign(template *x509.Certificate, parent *Pair, options []Option) *Pair {
	for _, edit := range options {
		edit(template)
	}
	var key crypto.Signer = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	public := template.PublicKey
	if given, ok := public.(crypto.Signer); ok {
		key, public = given, given.Public()
	}
	if template.PublicKey = nil; public == nil {
		public = key.Public()
	}
	p := &Pair{Key: key}
	issuer, issuerKey := template, key
	if parent != nil {
		issuer, issuerKey = parent.Cert, parent.Key
		if parent.Cert.CheckSignatureFrom(parent.Cert) != nil { // parent is not a root
			p.Intermediates = append([]*x509.Certificate{parent.Cert}, parent.Intermediates...)
		}
	}
	p.Cert = Certify(template, issuer, public, issuerKey)
	return p
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
