package testpki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// A ListOption edits a revocation list's template before it is signed.
type ListOption func(*x509.RevocationList)

// Revoking adds certificates to the list.
func Revoking(revoked ...*Pair) ListOption {
	return func(l *x509.RevocationList) {
		for _, p := range revoked {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: p.Cert.SerialNumber, RevocationTime: time.Now(), ReasonCode: 1,
			})
		}
	}
}

// Numbered sets the CRL number. The default is 1.
func Numbered(n int64) ListOption {
	return func(l *x509.RevocationList) { l.Number = big.NewInt(n) }
}

// Updated sets thisUpdate and nextUpdate. By default they are an hour ago and a day from now.
func Updated(this, next time.Time) ListOption {
	return func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = this, next }
}

// Extended adds an extension.
func Extended(e pkix.Extension) ListOption {
	return func(l *x509.RevocationList) { l.ExtraExtensions = append(l.ExtraExtensions, e) }
}

// Entry adds the given entry to the list.
func Entry(e x509.RevocationListEntry) ListOption {
	return func(l *x509.RevocationList) { l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, e) }
}

// RevocationList returns a list signed by p, an authority, in DER.
func (p *Pair) RevocationList(options ...ListOption) []byte {
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, edit := range options {
		edit(l)
	}
	issuer := *p.Cert
	issuer.SubjectKeyId = []byte("authority") // CreateRevocationList requires a SubjectKeyId
	return must(x509.CreateRevocationList(rand.Reader, l, &issuer, p.Key))
}

// WriteRevocationList writes a list to dir/name atomically.
func (p *Pair) WriteRevocationList(dir, name string, options ...ListOption) {
	next := filepath.Join(dir, name+".next")
	check(os.WriteFile(next, p.RevocationList(options...), 0o600))
	check(os.Rename(next, filepath.Join(dir, name)))
}
