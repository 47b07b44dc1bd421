package configcheck

import (
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
)

// A server whose revocations the gate learns in some way is not listed.
func TestNotEnforcedRevocations(t *testing.T) {
	jwt := config.AuthorizationServer{Name: "as", Issuer: "https://as.example.com", Tokens: config.JWTOnly}
	for name, tt := range map[string]struct {
		change func(*config.Config, *config.AuthorizationServer)
		listed bool
	}{
		"keys alone": {func(*config.Config, *config.AuthorizationServer) {}, true},
		"feed of another server": {func(c *config.Config, _ *config.AuthorizationServer) {
			c.Revocations = &config.Revocations{Server: "ours"}
		}, true},
		"opaque tokens":   {func(_ *config.Config, s *config.AuthorizationServer) { s.Tokens = config.OpaqueOnly }, false},
		"also_introspect": {func(_ *config.Config, s *config.AuthorizationServer) { s.AlsoIntrospect = true }, false},
		"security_events": {func(_ *config.Config, s *config.AuthorizationServer) { s.SecurityEvents = &config.SecurityEvents{} }, false},
		"feed of the server": {func(c *config.Config, _ *config.AuthorizationServer) {
			c.Revocations = &config.Revocations{Server: "as"}
		}, false},
		"issuer in the same process": {func(c *config.Config, s *config.AuthorizationServer) { c.Issuer = &config.Issuer{Issuer: s.Issuer} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			server, cfg := jwt, &config.Config{}
			tt.change(cfg, &server)
			cfg.AuthorizationServers = []config.AuthorizationServer{server}
			if got := strings.Contains(strings.Join(NotEnforced(cfg), "\n"), "revocation of JWTs of authorization server as "); got != tt.listed {
				t.Errorf("listed = %t, want %t", got, tt.listed)
			}
		})
	}
}
