package configcheck

import (
	"fmt"

	"github.com/tallygate/tallygate/config"
)

// NotEnforced returns the checks that the gate could make and, with the settings in cfg, does not make.
// A missing check is no fault, but an operator should know of it, because it is missing by default.
func NotEnforced(cfg *config.Config) []string {
	var open []string
	add := func(format string, args ...any) { open = append(open, fmt.Sprintf(format, args...)) }
	if len(cfg.Listener.ClientCertificates.Revocation.Lists) == 0 {
		add("revocation of client certificates: listener.client_certificates.revocation has no lists")
	}
	for i := range cfg.AuthorizationServers {
		s := &cfg.AuthorizationServers[i]
		if s.TakesJWT() && !learnsRevocations(cfg, s) {
			add("revocation of JWTs of authorization server %s before they expire: it has neither also_introspect nor security_events, and revocations does not name it", s.Name)
		}
	}
	free, routes := 0, 0
	for i := range cfg.APIs {
		for j := range cfg.APIs[i].Routes {
			routes++
			if len(cfg.APIs[i].Routes[j].Scopes) == 0 {
				free++
			}
		}
	}
	if free > 0 {
		add("scopes: %d of %d routes need no scope", free, routes)
	}
	pinless, unlimited, applications := countApplications(cfg)
	if pinless > 0 {
		add("registered certificates: %d of %d applications accept every certificate of their partner", pinless, applications)
	}
	if unlimited > 0 {
		add("rates: %d of %d applications have no rate_limit", unlimited, applications)
	}
	return open
}

// learnsRevocations reports whether the gate learns that s has revoked a JWT.
func learnsRevocations(cfg *config.Config, s *config.AuthorizationServer) bool {
	own := cfg.Issuer != nil && cfg.Issuer.Issuer == s.Issuer
	followed := cfg.Revocations != nil && cfg.Revocations.Server == s.Name
	return own || followed || s.AlsoIntrospect || s.SecurityEvents != nil
}

// countApplications counts three things: the applications without a registered certificate, the
// applications without a rate limit, and all applications.
func countApplications(cfg *config.Config) (pinless, unlimited, all int) {
	for i := range cfg.Partners.List {
		for j := range cfg.Partners.List[i].Applications {
			a := &cfg.Partners.List[i].Applications[j]
			all++
			if a.Certificate.MatchesAny() && a.Authentication == config.TLSClientAuth {
				pinless++
			}
			if a.RateLimit == nil {
				unlimited++
			}
		}
	}
	return pinless, unlimited, all
}
