// Package certlog names the log keys of client certificates, so that every line about a certificate has
// the same keys.
package certlog

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
)

// MaxAttributes bounds the attributes that Attributes returns: the names under five keys, issuer_dn,
// serial and not_after.
const MaxAttributes = 8

// Attributes returns the names of leaf, spelled as the configuration registers them, its issuer, serial
// number and end. The values come from the certificate, which may be untrusted, so they are truncated.
func Attributes(leaf *x509.Certificate) []slog.Attr {
	return append(Names(leaf),
		slog.String("issuer_dn", access.Truncate(certname.Text(leaf.RawIssuer))),
		slog.String("serial", access.Truncate(fmt.Sprintf("%x", leaf.SerialNumber))),
		slog.String("not_after", leaf.NotAfter.UTC().Format(time.RFC3339)),
	)
}

// Names returns the names of leaf, spelled as the configuration registers them.
func Names(leaf *x509.Certificate) []slog.Attr {
	byKey := make(map[string][]string)
	for _, n := range certname.List(leaf) {
		byKey[n.Key] = append(byKey[n.Key], n.Value)
	}
	a := make([]slog.Attr, 0, MaxAttributes)
	a = append(a, slog.String("subject_dn", access.Truncate(strings.Join(byKey["subject_dn"], " "))))
	for _, key := range []string{"san_dns", "san_uri", "san_ip", "san_email"} {
		if values := byKey[key]; len(values) > 0 {
			a = append(a, slog.String(key, access.Truncate(strings.Join(values, " "))))
		}
	}
	return a
}
