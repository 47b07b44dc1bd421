package issuer

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/issuer/rules"
)

// longestLogged is the length up to which a client_id that is not registered is logged.
// It is too short for a token that was put into the wrong parameter: an opaque one has
// 43 characters.
const longestLogged = 40

// attributes returns what the log says of c and its outcome. Of a certificate that
// was turned down it tells the names that were computed, for whoever has to find
// out what to register.
func (c call) attributes(err error) []slog.Attr {
	a := []slog.Attr{slog.Bool("granted", err == nil), slog.String("source_address", c.address.String())}
	if id := c.parameters.get("client_id"); c.client != nil || len(id) <= longestLogged {
		a = append(a, slog.String("client_id", id))
	}
	if c.client != nil && c.client.partner != "" {
		a = append(a, slog.String("partner", c.client.partner))
	}
	if c.certificate != nil {
		a = append(a, slog.String("thumbprint", c.certificate.Thumbprint.String()))
	}
	if err == nil {
		return a
	}
	f := faultOf(err)
	a = append(a, slog.String("error", faults[f].code), slog.String("err", access.Truncate(err.Error())))
	var denial *access.Denial
	if errors.As(err, &denial) {
		a = append(a, slog.String("reason", denial.Reason.String()))
	}
	var governed *rules.Refusal
	if errors.As(err, &governed) {
		a = append(a, slog.String("rule_level", governed.Level.String()), slog.String("rule", governed.Rule))
	}
	if f == invalidClient && c.certificate != nil {
		a = append(a, names(c.certificate.Leaf)...)
	}
	return a
}

// names returns the names in leaf that can be registered, spelled as they are to be.
func names(leaf *x509.Certificate) []slog.Attr {
	byKey := make(map[string][]string)
	for _, n := range certname.List(leaf) {
		byKey[n.Key] = append(byKey[n.Key], n.Value)
	}
	a := []slog.Attr{slog.String("subject_dn", access.Truncate(strings.Join(byKey["subject_dn"], " ")))}
	for _, key := range []string{"san_dns", "san_uri", "san_ip", "san_email"} {
		if values := byKey[key]; len(values) > 0 {
			a = append(a, slog.String(key, access.Truncate(strings.Join(values, " "))))
		}
	}
	return a
}
