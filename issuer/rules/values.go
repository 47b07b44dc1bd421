package rules

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/tallygate/tallygate/internal/certname"
)

// The types of the variables. An expression that names a field they lack does not
// compile.

// Client is the variable client.
type Client struct {
	ID             string `cel:"id" json:"id"`
	Partner        string `cel:"partner" json:"partner"`
	Authentication string `cel:"authentication" json:"authentication"`
}

// Certificate is the variable certificate: the leaf's names and validity. Where there is
// none, or one whose names cannot be spelled, a rule that needs it refuses.
type Certificate struct {
	SubjectDN  string    `cel:"subject_dn" json:"subject_dn"` // as the configuration spells it
	IssuerDN   string    `cel:"issuer_dn" json:"issuer_dn"`   // likewise
	SANDNS     []string  `cel:"san_dns" json:"san_dns"`
	SANURI     []string  `cel:"san_uri" json:"san_uri"`
	SANIP      []string  `cel:"san_ip" json:"san_ip"`
	SANEmail   []string  `cel:"san_email" json:"san_email"`
	Serial     string    `cel:"serial" json:"serial"` // hexadecimal
	NotBefore  time.Time `cel:"not_before" json:"not_before"`
	NotAfter   time.Time `cel:"not_after" json:"not_after"`
	Thumbprint string    `cel:"thumbprint" json:"thumbprint"` // base64url
}

// Request is the variable request.
type Request struct {
	Scopes    []string  `cel:"scopes" json:"scopes"`       // asked for
	Resources []string  `cel:"resources" json:"resources"` // that the token is to be for
	Address   string    `cel:"address" json:"address"`     // where it came from
	Time      time.Time `cel:"time" json:"time"`
}

// Granted is the variable granted: what the rules so far have left.
type Granted struct {
	Scopes   []string      `cel:"scopes" json:"scopes"`
	Lifetime time.Duration `cel:"lifetime" json:"lifetime"`
	Bound    bool          `cel:"bound" json:"bound"`
}

// values is what one request gives the variables. It is a cel Activation.
type values struct {
	client         *Client
	certificate    *Certificate
	certificateErr error
	request        *Request
	granted        *Granted
	scope          string
}

// errNoCertificate is of a request without one. None gets as far as the rules while
// every client authenticates by its certificate.
var errNoCertificate = errors.New("the request shows no certificate")

func newValues(in *Input) *values {
	v := &values{
		client:         &Client{in.ClientID, in.Partner, in.Authentication},
		certificateErr: errNoCertificate,
		request:        &Request{in.Scopes, in.Resources, "", in.Time},
		granted:        &Granted{in.Granted, in.Lifetime, in.Bound},
	}
	if in.Address.IsValid() {
		v.request.Address = in.Address.String()
	}
	if in.Certificate != nil {
		v.certificate, v.certificateErr = certificateOf(in.Certificate, in.Thumbprint)
	}
	return v
}

func certificateOf(leaf *x509.Certificate, thumbprint string) (*Certificate, error) {
	c := &Certificate{
		SANDNS: leaf.DNSNames, SANURI: certname.URIs(leaf), SANEmail: leaf.EmailAddresses,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Thumbprint: thumbprint,
	}
	var err error
	if c.SubjectDN, err = formatDN(leaf.RawSubject); err != nil {
		return nil, fmt.Errorf("the certificate's subject %w", err)
	}
	if c.IssuerDN, err = formatDN(leaf.RawIssuer); err != nil {
		return nil, fmt.Errorf("the certificate's issuer %w", err)
	}
	if leaf.SerialNumber != nil {
		c.Serial = leaf.SerialNumber.Text(16)
	}
	for _, octets := range leaf.IPAddresses {
		ip, _ := netip.AddrFromSlice(octets) // tells IPv4 from IPv4-mapped, as the configuration does
		c.SANIP = append(c.SANIP, ip.String())
	}
	return c, nil
}

// spelled returns the name in raw as the configuration spells it, so that what is copied
// from there, or from what prints names to be registered, is what rules compare with. The
// empty name is "". One that the configuration cannot spell is an error: no rule against
// it could be written.
func formatDN(raw []byte) (string, error) {
	if bytes.Equal(raw, emptyName) {
		return "", nil
	}
	names := certname.List(&x509.Certificate{RawSubject: raw}) // has no other names
	if len(names) == 0 {
		return "", errors.New("is no name that the configuration can spell")
	}
	return names[0].Value, nil
}

// emptyName is the DER of a name without attributes.
var emptyName = []byte{0x30, 0}

// now sets what changes from rule to rule.
func (v *values) setGrant(scope string, out *Outcome, in *Input) {
	v.scope = scope
	v.granted = &Granted{out.Scopes, out.Lifetime, in.Bound}
}

// shown returns the values for a person to read.
func (v *values) trace() map[string]any {
	granted := map[string]any{"scopes": v.granted.Scopes, "lifetime": v.granted.Lifetime.String(), "bound": v.granted.Bound}
	return map[string]any{"client": v.client, "certificate": v.certificate, "request": v.request, "granted": granted}
}

// activation returns the variables by name. What cannot be seen is an error there, so
// that the rules which need it refuse.
func (v *values) activation() map[string]any {
	variables := map[string]any{
		"client": v.client, "certificate": v.certificate, "request": v.request, "granted": v.granted, "scope": v.scope,
	}
	if v.certificateErr != nil {
		variables["certificate"] = types.WrapErr(v.certificateErr)
	}
	return variables
}
