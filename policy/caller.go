package policy

import (
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
)

// A Caller is the holder of a client certificate. It is a label for logs and metrics, not a decision.
type Caller struct {
	Partner  string // configured name; "" if no partner or more than one partner is possible
	ClientID string // the application that registers the certificate; "" if no application or more than one application does
}

// callers finds the holder of a certificate. It has indexes, because each refused request causes a search,
// and clients can send any number of such requests.
type callers struct {
	thumbprints map[access.Thumbprint]*application // registered thumbprints, each of one application
	names       map[string][]*application          // applications by a registered name
	anchors     map[access.AnchorKey]*partner      // partners by anchor; nil if several partners have the anchor
}

func newCallers() callers {
	return callers{
		thumbprints: make(map[access.Thumbprint]*application), names: make(map[string][]*application), anchors: make(map[access.AnchorKey]*partner),
	}
}

func (c *callers) addPartner(p *partner) {
	for _, anchor := range p.anchors {
		if other, taken := c.anchors[anchor]; taken && other != p {
			c.anchors[anchor] = nil
			continue
		}
		c.anchors[anchor] = p
	}
}

func (c *callers) addApplication(a *application) {
	for t := range a.registered {
		c.thumbprints[t] = a
	}
	for _, t := range a.certificate.Thumbprints {
		c.thumbprints[t] = a
	}
	if key := registeredKey(a.certificate); key != "" && !a.selfSigned {
		c.names[key] = append(c.names[key], a)
	}
}

// registeredKey returns the key in callers.names for one of the names that r registers, or "" if r registers
// no name. A key is in lower case, so certificates whose names differ in case have the same key; findName
// compares the names exactly.
func registeredKey(r *config.RegisteredCertificate) string {
	switch {
	case !r.SubjectDN.IsZero():
		return nameKey("subject_dn", r.SubjectDN.String())
	case r.SANDNS != "":
		return nameKey("san_dns", r.SANDNS)
	case r.SANURI != "":
		return nameKey("san_uri", string(r.SANURI))
	case r.SANIP.IsValid():
		return nameKey("san_ip", r.SANIP.String())
	case r.SANEmail != "":
		return nameKey("san_email", string(r.SANEmail))
	}
	return ""
}

func nameKey(key, value string) string { return key + "=" + strings.ToLower(value) }

// Caller returns the holder of cert, a certificate that package mtls has verified: the application that
// registers its thumbprint, or its name under an anchor of the partner; otherwise the only partner that has
// its anchor. cert may be nil.
func (t *Table) Caller(cert *access.Certificate) Caller {
	a, p := t.callers.find(cert)
	switch {
	case a != nil:
		return Caller{Partner: a.partner.name, ClientID: string(a.clientID)}
	case p != nil:
		return Caller{Partner: p.name}
	}
	return Caller{}
}

// find returns the application that registers cert and the partner that holds cert. A result is nil if there
// is no candidate or more than one candidate for it.
func (c *callers) find(cert *access.Certificate) (*application, *partner) {
	if cert == nil || cert.Leaf == nil {
		return nil, nil
	}
	if a := c.thumbprints[cert.Thumbprint]; a != nil && (len(cert.Anchors) == 0 || cert.ChainsTo(a.partner.anchors)) {
		return a, a.partner
	}
	if len(cert.Anchors) == 0 { // without an authority the client has chosen the names itself, and reading thousands of names takes time
		return nil, nil
	}
	if a, p, found := c.findName(cert); found {
		return a, p
	}
	var only *partner
	for _, anchor := range cert.Anchors {
		p, known := c.anchors[anchor]
		if !known || p == nil || only != nil && only != p {
			return nil, nil
		}
		only = p
	}
	return nil, only
}

// findName is find for registered names. found reports whether an application registers a name of cert.
func (c *callers) findName(cert *access.Certificate) (only *application, holder *partner, found bool) {
	compared := make(map[*application]bool) // each application is compared once, although many names of cert may have the same key
	for _, name := range certname.List(cert.Leaf) {
		for _, a := range c.names[nameKey(name.Key, name.Value)] {
			if compared[a] {
				continue
			}
			compared[a] = true
			switch {
			case !cert.ChainsTo(a.partner.anchors) || !a.certificate.MatchesName(cert.Leaf):
			case !found:
				only, holder, found = a, a.partner, true
			case a.partner != holder:
				return nil, nil, true
			default:
				only = nil // several applications of one partner
			}
		}
	}
	return only, holder, found
}

// Renewed reports whether a token of clientID, which server has issued and bound to the certificate with the
// thumbprint bound, came with another certificate of the same application. Two conditions must hold. The
// application registers cert by its thumbprint, or by a name under an anchor of the partner. And it registers
// bound, or bound is not registered at all and cert has a registered name. The gate refuses the token
// whatever Renewed returns. The result only selects the reason: access.BoundToPrevious after a renewal, and
// otherwise access.BoundToOther, a possible theft.
func (t *Table) Renewed(server, clientID string, bound access.Thumbprint, cert *access.Certificate) bool {
	owner, from := t.applications[clientID], t.servers[server]
	if owner == nil || from == nil || !from.speaksFor(owner.partner.name) {
		return false
	}
	if caller, _ := t.callers.find(cert); caller != owner {
		return false
	}
	if earlier := t.callers.thumbprints[bound]; earlier != nil {
		return earlier == owner
	}
	return !owner.selfSigned && cert.ChainsTo(owner.partner.anchors) && owner.certificate.MatchesName(cert.Leaf)
}
