package explain

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
)

// anchors names the partners to whose anchors the certificate chains.
func (x *explainer) anchors() string {
	var partners []string
	for name, anchors := range x.trust.Anchors() {
		if x.certificate.ChainsTo(anchors) {
			partners = append(partners, string(name))
		}
	}
	slices.Sort(partners)
	if len(partners) == 0 {
		return "chains to no anchor; only its thumbprint is compared"
	}
	return "chains to anchors of " + strings.Join(partners, ", ")
}

func (x *explainer) hosts() []string {
	var hosts []string
	for _, api := range x.cfg.APIs {
		for _, h := range api.Hosts {
			hosts = append(hosts, string(h))
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// server returns the configuration path of the token's authorization server. If that server is unknown,
// it returns the path of the list of all servers.
func (x *explainer) server() string {
	for i, s := range x.cfg.AuthorizationServers {
		if string(s.Name) == x.decision.Server {
			return fmt.Sprintf("authorization_servers[%d]", i)
		}
	}
	return "authorization_servers"
}

// partner returns the configuration path of the partner in the decision.
func (x *explainer) partner() string {
	return fmt.Sprintf("partners.list[%d]", x.decision.Rule.Partner)
}

// application returns the application in the decision, and the application's configuration path.
func (x *explainer) application() (path string, a *config.Application) {
	rule := x.decision.Rule
	return fmt.Sprintf("%s.applications[%d]", x.partner(), rule.Application), &x.cfg.Partners.List[rule.Partner].Applications[rule.Application]
}

// route returns the configuration path of the matched route.
func (x *explainer) route() string {
	return fmt.Sprintf("apis[%d].routes[%d]", x.decision.Rule.API, x.decision.Rule.Route)
}

// rate describes the rate limit of the client. How much of the rate is used is known only to a running
// gate.
func (x *explainer) rate(stage *Stage) {
	if path, a := x.application(); a.RateLimit != nil {
		x.at(stage, path+".rate_limit")
		stage.Detail = fmt.Sprintf("within %d requests a second, %d at once", a.RateLimit.RequestsPerSecond, a.RateLimit.Burst)
	}
}

// registered returns the configuration path of the setting that registers the client's
// certificates, and its value.
func (x *explainer) registered() (path, said string) {
	path, a := x.application()
	said, anchors := a.Certificate.String(), "under the anchors of partner "+x.decision.Partner
	switch {
	case a.Authentication == config.SelfSignedTLSClientAuth && said == "":
		return path + ".keys", keysText(&a.Keys)
	case a.Authentication == config.SelfSignedTLSClientAuth:
		return path + ".certificate", said
	case said == "":
		return path + ".certificate", "any " + anchors
	}
	return path + ".certificate", said + ", " + anchors
}

// keysText describes where the registered certificates of a client are.
func keysText(keys *config.ClientKeys) string {
	switch {
	case keys.JWKSURI != nil:
		return "a certificate at the client's jwks_uri, by a token of our own issuer"
	case keys.JWKS != "":
		return "a certificate of the client's jwks"
	}
	files := make([]string, len(keys.Certificates))
	for i, f := range keys.Certificates {
		files[i] = string(f)
	}
	return "a certificate in " + strings.Join(files, " or ")
}

// registrableText lists the settings that could register cert.
func registrableText(cert *x509.Certificate) string {
	var said []string
	for _, n := range certname.List(cert) {
		said = append(said, n.Key+" "+n.Value)
	}
	return strings.Join(append(said, "thumbprint "+access.ThumbprintOf(cert).String()), ", ")
}
