package configcheck

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// soon is the rest of the validity of a gate's certificate below which check warns. Authorities that
// issue for 90 days recommend a renewal 30 days before the end of the validity. If 14 days are left,
// several attempts to renew the certificate were due and did not succeed.
const soon = 14 * 24 * time.Hour

// gateCertificates examines the certificates that the listeners present.
func (e *examiner) gateCertificates() {
	const listener, issuer = "listener.certificate.files.certificate", "issuer.certificate.files.certificate"
	var partners, tokens []string                                    // the host names that each certificate must have: of the partners' listener, and of the issuer's listener
	if e.cfg.Listener.ClientCertificates.From != config.FromHeader { // with FromHeader, clients see the certificate of a front proxy
		for i := range e.cfg.APIs {
			for _, host := range e.cfg.APIs[i].Hosts {
				partners = append(partners, string(host))
			}
		}
	}
	if own := e.cfg.Issuer; own != nil {
		if u, err := url.Parse(string(own.Issuer)); err == nil {
			tokens = append(tokens, u.Hostname())
		}
		if own.MTLSAlias != nil && own.MTLSAlias.URL != nil {
			tokens = append(tokens, own.MTLSAlias.URL.Hostname())
		}
		if file := own.Certificate.Files.Certificate; file != "" {
			e.gateCertificate(issuer, file, tokens)
		} else {
			partners = append(partners, tokens...)
		}
	}
	if file := e.cfg.Listener.Certificate.Files.Certificate; file != "" {
		e.gateCertificate(listener, file, partners)
	}
}

// gateCertificate examines the certificate chain in file. names are the host names that its clients
// call.
func (e *examiner) gateCertificate(path string, file config.Path, names []string) {
	chain, err := pemfile.ReadChain(string(file))
	if err != nil || len(chain) == 0 {
		return // Files reports this error
	}
	leaf := chain[0].Certificate
	switch {
	case e.now.Before(leaf.NotBefore):
		e.warn(path, "the certificate is not valid before %s; clients refuse it until then", date(leaf.NotBefore))
	case e.now.After(leaf.NotAfter):
		e.warn(path, "the certificate has expired on %s; clients refuse it", date(leaf.NotAfter))
	case leaf.NotAfter.Sub(e.now) < soon:
		e.warn(path, "the certificate ends within 14 days, on %s", date(leaf.NotAfter))
	}
	if usages := leaf.ExtKeyUsage; len(usages)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(usages, x509.ExtKeyUsageServerAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		e.warn(path, "the certificate lists extended key usages without serverAuth; clients refuse it (RFC 5280 section 4.2.1.12)")
	}
	if missing := withoutName(leaf, names); len(missing) > 0 {
		e.warn(path, "the certificate has no subjectAltName for %s; clients that call it there refuse it (RFC 9525)", strings.Join(missing, ", "))
	}
	for i := 1; i < len(chain); i++ {
		if string(chain[i].RawSubject) != string(chain[i-1].RawIssuer) {
			e.warn(path, "the chain is in the wrong order: the certificate of %s at %s did not sign the certificate before it; TLS wants the leaf first and then each issuer (RFC 8446 section 4.4.2)", chain[i].Subject, chain[i].Position)
			break
		}
	}
}

// mostNames bounds the names in a warning.
const mostNames = 5

// withoutName returns the names that leaf does not have, each once.
func withoutName(leaf *x509.Certificate, names []string) (missing []string) {
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		called := name
		if parent, wild := strings.CutPrefix(name, "*."); wild {
			called = "any." + parent // an example of a host that the wildcard matches; in certificates, too, * stands for one label
		}
		if leaf.VerifyHostname(strings.Trim(called, "[]")) != nil {
			missing = append(missing, name)
		}
	}
	if more := len(missing) - mostNames; more > 0 {
		missing = append(missing[:mostNames], fmt.Sprintf("and %d more", more))
	}
	return missing
}

// allAnchors warns of expired anchors of client certificates.
func (e *examiner) allAnchors() {
	e.anchorFiles("listener.client_certificates.trust", e.cfg.Listener.ClientCertificates.Trust)
	if header := e.cfg.Listener.ClientCertificates.Header; header != nil && header.TrustedProxies.Certificates != nil {
		e.anchorFiles("listener.client_certificates.header.trusted_proxies.certificates.trust", header.TrustedProxies.Certificates.Trust)
	}
	for i := range e.cfg.Partners.List {
		e.anchorFiles(strictyaml.Index("partners.list", i)+".trust", e.cfg.Partners.List[i].Trust)
	}
	if e.cfg.Issuer == nil {
		return
	}
	for i := range e.cfg.Issuer.ResourceServers {
		e.anchorFiles(strictyaml.Index("issuer.resource_servers", i)+".trust", e.cfg.Issuer.ResourceServers[i].Trust)
	}
	for i := range e.cfg.Issuer.Operators {
		e.anchorFiles(strictyaml.Index("issuer.operators", i)+".trust", e.cfg.Issuer.Operators[i].Trust)
	}
}

func (e *examiner) anchorFiles(path string, files []config.Path) {
	for i, file := range files {
		for _, c := range e.authorities(file) {
			if e.now.After(c.NotAfter) {
				e.warn(strictyaml.Index(path, i), "%s: the anchor %s has expired on %s; client certificates that chain to it are refused", c.Position, c.Subject, date(c.NotAfter))
			}
		}
	}
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
