package gate

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
)

// Each setting that weakens a check has a warning in the log and the same text on the console.
func TestWeakened(t *testing.T) {
	var until config.Date
	if err := until.UnmarshalText([]byte("2999-06-30")); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Listener: config.Listener{ClientCertificates: config.ClientCertificates{Revocation: config.Revocation{
			Lists: []config.RevocationList{{}}, WhenStale: config.AcceptStale,
		}}},
		Revocations: &config.Revocations{WhenStale: config.ContinueRevocationsStale},
		AuthorizationServers: []config.AuthorizationServer{{
			Name:           "keycloak",
			Connection:     config.Connection{InsecureLoopbackHTTP: true, InsecureHTTPHosts: []config.Host{"keycloak.auth.svc"}},
			SecurityEvents: &config.SecurityEvents{WhenStale: config.ContinueRevocationsStale},
			Introspection:  &config.Introspection{InsecureAudienceOptional: true},
		}},
		Issuer: &config.Issuer{Database: &config.Database{InsecureSSLMode: "require"}},
		Partners: config.Partners{List: []config.Partner{
			{Name: "northwind", InsecureRSA1024Until: until},
		}},
	}
	s := &state{cfg: cfg}
	want := []string{
		"plain http to this machine is allowed for authorization server keycloak",
		"plain http to services of the cluster is allowed for authorization server keycloak: [keycloak.auth.svc]",
		"client certificates with unknown revocation status are accepted",
		"tokens are granted although they may have been revoked, while the revocations of the issuer are stale, when_stale continue",
		"tokens are granted although they may have been revoked, while the security events of the server are stale, issuer keycloak, when_stale continue",
		"introspection responses without aud are accepted, issuer keycloak",
		"the server of the issuer's database is not authenticated, insecure_sslmode require",
		"RSA keys of 1024 bits are accepted from a partner, partner northwind, until 2999-06-30",
	}
	if diff := cmp.Diff(want, s.weakened()); diff != "" {
		t.Errorf("on the console (-want +got):\n%s", diff)
	}
	var log strings.Builder
	s.warnWeakened(slog.New(slog.NewTextHandler(&log, nil)))
	if n := strings.Count(log.String(), "level=WARN"); n != len(want)-2 { // package authserver logs the first two
		t.Errorf("the log has %d warnings, want %d:\n%s", n, len(want)-2, log.String())
	}
	if got := (&state{cfg: &config.Config{}}).weakened(); !slices.Equal(got, nil) {
		t.Errorf("without such a setting: got %q, want none", got)
	}
}
