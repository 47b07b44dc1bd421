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

// server returns the configuration path of the token's authorization server, or of all servers if
// it is unknown.
func (x *explainer) server() string {
	for i, s := range x.cfg.AuthorizationServers {
		if string(s.Name) == x.decision.Server {
			return fmt.Sprintf("authorization_servers[%d]", i)
		}
	}
	return "authorization_servers"
}

// partner returns the configuration path of the partner of the token's client.
func (x *explainer) partner() string {
	path, _ := x.client()
	return path
}

// application returns the configuration path of the token's client.
func (x *explainer) application() string {
	partner, j := x.client()
	return fmt.Sprintf("%s.applications[%d]", partner, j)
}

// rate describes the rate limit of the client. Only a running gate knows how much of it is used.
func (x *explainer) rate(stage *Stage) {
	path := x.application() + ".rate_limit"
	for _, p := range x.cfg.Partners.List {
		for _, a := range p.Applications {
			if string(a.ClientID) == x.decision.ClientID && a.RateLimit != nil {
				x.at(stage, path)
				stage.Detail = fmt.Sprintf("within %d requests a second, %d at once", a.RateLimit.RequestsPerSecond, a.RateLimit.Burst)
			}
		}
	}
}

// client returns the configuration path of the partner of the token's client, and the client's
// index.
func (x *explainer) client() (partner string, application int) {
	for i, p := range x.cfg.Partners.List {
		j := slices.IndexFunc(p.Applications, func(a config.Application) bool { return string(a.ClientID) == x.decision.ClientID })
		if j >= 0 {
			return fmt.Sprintf("partners.list[%d]", i), j
		}
	}
	return "partners.list", 0
}

// route returns the configuration path of the matching route.
func (x *explainer) route() string {
	for i, api := range x.cfg.APIs {
		if string(api.Name) != x.decision.API {
			continue
		}
		for j, r := range api.Routes {
			if string(api.Name)+" "+r.Path.String() == x.decision.Route && slices.Contains(r.Methods, config.Method(x.request.Method)) {
				return fmt.Sprintf("apis[%d].routes[%d]", i, j)
			}
		}
	}
	return "apis"
}

// registered returns the configuration path of the setting that registers the client's
// certificates, and its value.
func (x *explainer) registered() (path, said string) {
	for _, p := range x.cfg.Partners.List {
		for _, a := range p.Applications {
			if string(a.ClientID) != x.decision.ClientID {
				continue
			}
			said, under := a.Certificate.String(), ", under the anchors of partner "+string(p.Name)
			switch {
			case a.Authentication == config.SelfSignedTLSClientAuth && said == "":
				return x.application() + ".keys", keysText(&a.Keys)
			case a.Authentication == config.SelfSignedTLSClientAuth:
				return x.application() + ".certificate", said
			case said == "":
				said, under = "any", " under the anchors of partner "+string(p.Name)
			}
			return x.application() + ".certificate", said + under
		}
	}
	return "partners", ""
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
