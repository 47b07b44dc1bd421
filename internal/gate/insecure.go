package gate

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
)

// warnInsecure warns of settings and file modes that weaken the gate.
func (s *state) warnInsecure(log *slog.Logger) {
	s.warnWeakened(log)
	for _, name := range s.cfg.Unlimited() {
		log.Warn("several authorization servers may issue tokens for every partner; list the partners of each server", "issuer", string(name))
	}
	for _, file := range s.cfg.Secrets() {
		if about, err := os.Stat(file); err == nil && about.Mode().Perm()&0o007 != 0 {
			log.Warn("secret is readable by every user of this machine", "file", file, "mode", about.Mode().Perm().String())
		}
	}
}

// warnWeakened warns of settings that weaken a check. The console shows the same warnings.
func (s *state) warnWeakened(log *slog.Logger) {
	if r := s.cfg.Listener.ClientCertificates.Revocation; len(r.Lists) > 0 && r.WhenStale == config.AcceptStale {
		log.Warn("client certificates with unknown revocation status are accepted")
	}
	if r := s.cfg.Revocations; r != nil && r.WhenStale == config.ContinueRevocationsStale {
		log.Warn("insecure: tokens are granted although they may have been revoked, while the revocations of the issuer are stale", "when_stale", string(r.WhenStale))
	}
	for i := range s.cfg.AuthorizationServers {
		warnWeakenedServer(log, &s.cfg.AuthorizationServers[i])
	}
	if own := s.cfg.Issuer; own != nil && own.Database != nil && own.Database.InsecureSSLMode != "" {
		log.Warn("insecure: the server of the issuer's database is not authenticated", "insecure_sslmode", string(own.Database.InsecureSSLMode))
	}
	for _, p := range s.cfg.Partners.List {
		until := p.InsecureRSA1024Until
		switch {
		case until.IsZero():
		case time.Now().Before(until.End()):
			log.Warn("insecure: RSA keys of 1024 bits are accepted from a partner", "partner", string(p.Name), "until", until.String())
		default:
			log.Warn("RSA keys of 1024 bits are refused from a partner since the date of insecure_rsa_1024_until", "partner", string(p.Name), "until", until.String())
		}
	}
}

func warnWeakenedServer(log *slog.Logger, server *config.AuthorizationServer) {
	log = log.With("issuer", string(server.Name))
	if e := server.SecurityEvents; e != nil && e.WhenStale == config.ContinueRevocationsStale {
		log.Warn("insecure: tokens are granted although they may have been revoked, while the security events of the server are stale", "when_stale", string(e.WhenStale))
	}
	if server.Introspection != nil && server.Introspection.InsecureAudienceOptional {
		log.Warn("insecure: introspection responses without aud are accepted")
	}
}

// weakened returns the warnings of warnWeakened as texts, after the warnings of plain http. Package authserver logs
// the warnings of plain http, so that programs which use package validate get them too.
func (s *state) weakened() (texts []string) {
	for i := range s.cfg.AuthorizationServers {
		server := &s.cfg.AuthorizationServers[i]
		if server.Connection.InsecureLoopbackHTTP {
			texts = append(texts, fmt.Sprintf("plain http to this machine is allowed for authorization server %s", server.Name))
		}
		if hosts := server.Connection.InsecureHTTPHosts; len(hosts) > 0 {
			texts = append(texts, fmt.Sprintf("plain http to services of the cluster is allowed for authorization server %s: %s", server.Name, hosts))
		}
	}
	s.warnWeakened(slog.New(&textHandler{texts: &texts}))
	return texts
}

// A textHandler keeps log records as texts.
type textHandler struct {
	texts *[]string
	attrs []slog.Attr
}

func (h *textHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	text := strings.TrimPrefix(r.Message, "insecure: ")
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s %s", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	*h.texts = append(*h.texts, text)
	return nil
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler { return &textHandler{h.texts, attrs} }

func (h *textHandler) WithGroup(string) slog.Handler { return h }
