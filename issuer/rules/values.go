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

// The types of the variables. An expression that uses a field that its type lacks does not compile.

// Client is the type of the CEL variable client: the client that requests the token.
type Client struct {
	ID             string `cel:"id" json:"id"`
	Partner        string `cel:"partner" json:"partner"`
	Authentication string `cel:"authentication" json:"authentication"`
}

// Certificate is the type of the CEL variable certificate: names and validity of the leaf. The variable
// is an error value if there is no certificate, or if the configuration cannot express a name of the
// certificate. A rule that reads an error value refuses the request.
type Certificate struct {
	SubjectDN  string    `cel:"subject_dn" json:"subject_dn"` // in the notation of the configuration
	IssuerDN   string    `cel:"issuer_dn" json:"issuer_dn"`   // in the notation of the configuration
	SANDNS     []string  `cel:"san_dns" json:"san_dns"`
	SANURI     []string  `cel:"san_uri" json:"san_uri"`
	SANIP      []string  `cel:"san_ip" json:"san_ip"`
	SANEmail   []string  `cel:"san_email" json:"san_email"`
	Serial     string    `cel:"serial" json:"serial"` // hexadecimal
	NotBefore  time.Time `cel:"not_before" json:"not_before"`
	NotAfter   time.Time `cel:"not_after" json:"not_after"`
	Thumbprint string    `cel:"thumbprint" json:"thumbprint"` // base64url
}

// Request is the type of the CEL variable request.
type Request struct {
	Scopes    []string  `cel:"scopes" json:"scopes"`       // the requested scopes
	Resources []string  `cel:"resources" json:"resources"` // the requested audience of the token
	Address   string    `cel:"address" json:"address"`     // source address
	Time      time.Time `cel:"time" json:"time"`
}

// Granted is the type of the CEL variable granted: what the rules so far leave of the request.
type Granted struct {
	Scopes   []string      `cel:"scopes" json:"scopes"`
	Lifetime time.Duration `cel:"lifetime" json:"lifetime"`
	Bound    bool          `cel:"bound" json:"bound"`
}

// values has the variables of one request.
type values struct {
	client         *Client
	certificate    *Certificate
	certificateErr error
	request        *Request
	granted        *Granted
	scope          string
}

// errNoCertificate is for a request without a certificate. It cannot occur as long as every client
// authenticates by a certificate.
var errNoCertificate = errors.New("the request has no client certificate")

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
		ip, _ := netip.AddrFromSlice(octets) // like the configuration, AddrFromSlice does not turn IPv4-mapped IPv6 addresses into IPv4 addresses
		c.SANIP = append(c.SANIP, ip.String())
	}
	return c, nil
}

// formatDN returns the name in raw in the notation of the configuration, so that rules can compare it
// with names copied from the configuration or from tallygate's output. For the empty name it returns
// "". If the configuration cannot express the name, it returns an error, because no rule could match
// the name.
func formatDN(raw []byte) (string, error) {
	if bytes.Equal(raw, emptyName) {
		return "", nil
	}
	names := certname.List(&x509.Certificate{RawSubject: raw}) // the certificate has no SANs, so the DN is its only name
	if len(names) == 0 {
		return "", errors.New("cannot be written in the notation of the configuration")
	}
	return names[0].Value, nil
}

// emptyName is the DER of a name without attributes.
var emptyName = []byte{0x30, 0}

// setGrant sets the variables that change after each rule.
func (v *values) setGrant(scope string, out *Outcome, in *Input) {
	v.scope = scope
	v.granted = &Granted{out.Scopes, out.Lifetime, in.Bound}
}

// trace returns the variables for a Trace.
func (v *values) trace() map[string]any {
	granted := map[string]any{"scopes": v.granted.Scopes, "lifetime": v.granted.Lifetime.String(), "bound": v.granted.Bound}
	return map[string]any{"client": v.client, "certificate": v.certificate, "request": v.request, "granted": granted}
}

// activation returns the variables by name. If the certificate cannot be used, its variable is an
// error value, so that a rule that reads it refuses the request.
func (v *values) activation() map[string]any {
	variables := map[string]any{
		"client": v.client, "certificate": v.certificate, "request": v.request, "granted": v.granted, "scope": v.scope,
	}
	if v.certificateErr != nil {
		variables["certificate"] = types.WrapErr(v.certificateErr)
	}
	return variables
}
