package mtls

import (
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// crypto/x509 applies name constraints (RFC 5280 section 4.2.1.10) only to DNS names, email
// addresses, URIs and IP addresses in subject alternative names. For constraints on directory names,
// crypto/x509 ignores the constraints if they are not critical, and refuses every certificate below
// the authority if they are critical. This file applies constraints, as RFC 5280 section 6.1 says, to
// the names that crypto/x509 does not check: directory names, and email addresses in subjects. If a
// constraint has a name form that neither this file nor crypto/x509 evaluates, every certificate with
// such a name is refused.

var (
	oidSubjectAltName  = encodingasn1.ObjectIdentifier{2, 5, 29, 17}
	oidNameConstraints = encodingasn1.ObjectIdentifier{2, 5, 29, 30}
)

// withoutHandledExtensions returns c without the critical extensions that satisfyConstraints handles
// and crypto/x509 does not handle, so that Verify does not refuse them. It does not change c itself,
// because crypto/tls may share c between connections.
func withoutHandledExtensions(c *x509.Certificate) *x509.Certificate {
	left := slices.DeleteFunc(slices.Clone(c.UnhandledCriticalExtensions), func(id encodingasn1.ObjectIdentifier) bool {
		return id.Equal(oidSubjectAltName) || id.Equal(oidNameConstraints)
	})
	if len(left) == len(c.UnhandledCriticalExtensions) {
		return c
	}
	handled := *c
	handled.UnhandledCriticalExtensions = left
	return &handled
}

// The name forms of a GeneralName, RFC 5280 section 4.2.1.6, by tag number.
const (
	formEmail     = 1
	formDNS       = 2
	formDirectory = 4
	formURI       = 6
	formIP        = 7
)

// forms is a set of name forms.
type forms uint32

func (f *forms) add(form int) { *f |= 1 << (form & 31) }

// nameForms are the forms of a list of GeneralNames. The gate cannot evaluate unsupported forms.
type nameForms struct{ all, unsupported forms }

// read adds the form of a GeneralName, which has tag and content, to n. It appends a directory name
// to directories. It returns false if the directory name is malformed.
func (n *nameForms) read(tag asn1.Tag, content cryptobyte.String, directories *[]directoryName) bool {
	form, unsupported := formOf(tag)
	n.all.add(form)
	switch {
	case unsupported:
		n.unsupported.add(form)
	case form == formDirectory:
		d, ok := readDirectoryName(content)
		*directories = append(*directories, d)
		return ok
	}
	return true
}

// constraints are the name constraints of one authority.
type constraints struct {
	nameForms                            // the constrained forms
	permitted, excluded                  []directoryName
	permittedEmails, excludedEmails      []string
	permitsDirectories, permitsAddresses bool // a name of this form must match a permitted subtree
}

// names are the names of one certificate that crypto/x509 does not check against constraints.
type names struct {
	nameForms   // the forms of all names
	directories []directoryName
	emails      []string // email addresses in the subject
}

var (
	errConstraints = errors.New("malformed name constraints")
	errNames       = errors.New("malformed subject or subject alternative names")
)

// maxComparisons bounds how often names are compared with constraints in one chain. A million
// comparisons take about 50 ms; chains in use need fewer than a hundred.
const maxComparisons = 1 << 20

// satisfyConstraints reports whether every certificate of a chain, from the leaf to the anchor, satisfies
// the name constraints of all authorities above it, including the anchor. crypto/x509 must have
// verified the chain.
func satisfyConstraints(chain []*x509.Certificate) bool {
	var above []*constraints
	budget := maxComparisons
	for i := len(chain) - 1; i >= 0; i-- {
		c := chain[i]
		// RFC 5280 section 6.1.3 (b) exempts a self-issued certificate, unless it is the last
		// certificate of the chain. The names of an anchor are not checked.
		exempt := i == len(chain)-1 || i > 0 && string(c.RawIssuer) == string(c.RawSubject)
		if len(above) > 0 && !exempt {
			n, err := namesOf(c)
			if err != nil {
				return false
			}
			for _, limits := range above {
				budget -= len(n.directories) * (len(limits.permitted) + len(limits.excluded))
				if budget < 0 || !limits.allow(n) {
					return false
				}
			}
		}
		if i == 0 {
			break
		}
		own, err := constraintsOf(c)
		if err != nil {
			return false
		}
		if own != nil {
			above = append(above, own)
		}
	}
	return true
}

// allow reports whether every name in n is in a permitted subtree and no name is in an excluded
// subtree.
func (c *constraints) allow(n *names) bool {
	if c.unsupported&n.all != 0 || c.all&n.unsupported != 0 {
		return false
	}
	for _, d := range n.directories {
		if slices.ContainsFunc(c.excluded, func(base directoryName) bool { return d.within(base) != outside }) {
			return false
		}
		if c.permitsDirectories && !slices.ContainsFunc(c.permitted, func(base directoryName) bool { return d.within(base) == inside }) {
			return false
		}
	}
	for _, email := range n.emails {
		if slices.ContainsFunc(c.excludedEmails, func(base string) bool { return emailWithin(email, base) }) {
			return false
		}
		if c.permitsAddresses && !slices.ContainsFunc(c.permittedEmails, func(base string) bool { return emailWithin(email, base) }) {
			return false
		}
	}
	return true
}

// emailWithin reports whether an email address is in the subtree of base. base is a mailbox, a host
// or, with a leading point, all hosts of a domain (RFC 5280 section 4.2.1.10).
func emailWithin(address, base string) bool {
	at := strings.LastIndexByte(address, '@')
	local, host := address[:max(at, 0)], address[at+1:]
	if i := strings.LastIndexByte(base, '@'); i >= 0 {
		return local == base[:i] && strings.EqualFold(host, base[i+1:])
	}
	if strings.HasPrefix(base, ".") {
		return len(host) > len(base) && strings.EqualFold(host[len(host)-len(base):], base)
	}
	return base == "" || strings.EqualFold(host, base)
}

// constraintsOf returns the name constraints of the authority c, or nil if c has no such extension.
func constraintsOf(c *x509.Certificate) (*constraints, error) {
	value, ok := extensionOf(c, oidNameConstraints)
	if !ok {
		return nil, nil
	}
	var whole, permitted, excluded cryptobyte.String
	if !value.ReadASN1(&whole, asn1.SEQUENCE) || !value.Empty() ||
		!whole.ReadOptionalASN1(&permitted, nil, asn1.Tag(0).ContextSpecific().Constructed()) ||
		!whole.ReadOptionalASN1(&excluded, nil, asn1.Tag(1).ContextSpecific().Constructed()) || !whole.Empty() {
		return nil, errConstraints
	}
	own := &constraints{
		permittedEmails: c.PermittedEmailAddresses, excludedEmails: c.ExcludedEmailAddresses,
		permitsAddresses: len(c.PermittedEmailAddresses) > 0,
	}
	var err error
	if own.permitted, err = own.subtrees(permitted); err != nil {
		return nil, err
	}
	own.permitsDirectories = len(own.permitted) > 0
	own.excluded, err = own.subtrees(excluded)
	return own, err
}

// subtrees parses GeneralSubtrees, adds the forms of the subtrees to c and returns the directory
// names. RFC 5280 does not allow a subtree to have a minimum or maximum, so such a subtree is
// malformed.
func (c *constraints) subtrees(list cryptobyte.String) (directories []directoryName, err error) {
	for !list.Empty() {
		var subtree, base cryptobyte.String
		var tag asn1.Tag
		if !list.ReadASN1(&subtree, asn1.SEQUENCE) || !subtree.ReadAnyASN1(&base, &tag) || !subtree.Empty() || !c.read(tag, base, &directories) {
			return nil, errConstraints
		}
	}
	return directories, nil
}

// formOf returns the name form of a GeneralName by its tag. A form is unsupported if neither this
// package nor crypto/x509 evaluates it. A known form with a wrong encoding is unsupported too.
func formOf(tag asn1.Tag) (form int, unsupported bool) {
	form = int(tag & 0x1f)
	switch tag { //nolint:exhaustive // the tags that are evaluated
	case asn1.Tag(formEmail).ContextSpecific(), asn1.Tag(formDNS).ContextSpecific(), asn1.Tag(formURI).ContextSpecific(),
		asn1.Tag(formIP).ContextSpecific(), asn1.Tag(formDirectory).ContextSpecific().Constructed():
		return form, false
	}
	return form, true
}

// namesOf returns the names of a certificate. A subject that is not empty is a directory name.
func namesOf(c *x509.Certificate) (*names, error) {
	n := &names{}
	subject, ok := readDirectoryName(c.RawSubject)
	if !ok {
		return nil, errNames
	}
	if len(subject.rdns) > 0 {
		n.directories = append(n.directories, subject)
		n.all.add(formDirectory)
	}
	n.emails = subject.emails
	for _, email := range n.emails {
		n.all.add(formEmail)
		if !strings.Contains(email, "@") {
			n.unsupported.add(formEmail)
		}
	}
	value, ok := extensionOf(c, oidSubjectAltName)
	if !ok {
		return n, nil
	}
	var list cryptobyte.String
	if !value.ReadASN1(&list, asn1.SEQUENCE) || !value.Empty() {
		return nil, errNames
	}
	for !list.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !list.ReadAnyASN1(&name, &tag) || !n.read(tag, name, &n.directories) {
			return nil, errNames
		}
	}
	return n, nil
}

// namesContainNUL reports whether the subject or a subject alternative name of c contains the
// character NUL. No name needs the character, and software with C strings reads only the part of a
// name before it. URIs are not searched, because crypto/x509 accepts no URI with NUL.
func namesContainNUL(c *x509.Certificate) bool {
	holds := func(text string) bool { return strings.ContainsRune(text, 0) }
	if slices.ContainsFunc(c.DNSNames, holds) || slices.ContainsFunc(c.EmailAddresses, holds) {
		return true
	}
	n, err := namesOf(c)
	return err == nil && slices.ContainsFunc(n.directories, func(d directoryName) bool { return d.nul })
}

// extensionOf returns the value of the extension with the identifier id. There is one value at most,
// because crypto/x509 accepts no certificate with a repeated extension.
func extensionOf(c *x509.Certificate, id encodingasn1.ObjectIdentifier) (cryptobyte.String, bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value, true
		}
	}
	return nil, false
}
