package governance

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"github.com/tallygate/tallygate/config"
)

// The types of the variables. An expression that names a field they lack does not
// compile.

// Client is the variable client.
type Client struct {
	ID             string `cel:"id" json:"id"`
	Partner        string `cel:"partner" json:"partner"`
	Authentication string `cel:"authentication" json:"authentication"`
}

// Certificate is the variable certificate: the leaf's names and validity. Without a
// certificate everything in it is empty.
type Certificate struct {
	SubjectDN  string    `cel:"subject_dn" json:"subject_dn"` // RFC 4514
	IssuerDN   string    `cel:"issuer_dn" json:"issuer_dn"`   // RFC 4514
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
	client      *Client
	certificate *Certificate
	request     *Request
	granted     *Granted
	scope       string
}

func newValues(in *Input) *values {
	v := &values{
		client:      &Client{in.ClientID, in.Partner, in.Authentication},
		certificate: &Certificate{Thumbprint: in.Thumbprint},
		request:     &Request{in.Scopes, in.Resources, "", in.Time},
		granted:     &Granted{in.Granted, in.Lifetime, in.Bound},
	}
	if in.Address.IsValid() {
		v.request.Address = in.Address.String()
	}
	if in.Certificate != nil {
		v.certificate = certificateOf(in.Certificate, in.Thumbprint)
	}
	return v
}

func certificateOf(leaf *x509.Certificate, thumbprint string) *Certificate {
	c := &Certificate{
		SubjectDN: text(leaf.RawSubject), IssuerDN: text(leaf.RawIssuer),
		SANDNS: leaf.DNSNames, SANURI: config.URIs(leaf), SANEmail: leaf.EmailAddresses,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Thumbprint: thumbprint,
	}
	if leaf.SerialNumber != nil {
		c.Serial = leaf.SerialNumber.Text(16)
	}
	for _, ip := range leaf.IPAddresses {
		c.SANIP = append(c.SANIP, ip.String())
	}
	return c
}

// text returns a name as RFC 4514 has it, in the order and grouping of its encoding.
func text(raw []byte) string {
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(raw, &name); err != nil {
		return ""
	}
	return name.String()
}

// now sets what changes from rule to rule.
func (v *values) now(scope string, out *Outcome, in *Input) {
	v.scope = scope
	v.granted = &Granted{out.Scopes, out.Lifetime, in.Bound}
}

// shown returns the values for a person to read.
func (v *values) shown() map[string]any {
	granted := map[string]any{"scopes": v.granted.Scopes, "lifetime": v.granted.Lifetime.String(), "bound": v.granted.Bound}
	return map[string]any{"client": v.client, "certificate": v.certificate, "request": v.request, "granted": granted}
}

// activation returns the variables by name.
func (v *values) activation() map[string]any {
	return map[string]any{
		"client": v.client, "certificate": v.certificate, "request": v.request, "granted": v.granted, "scope": v.scope,
	}
}
