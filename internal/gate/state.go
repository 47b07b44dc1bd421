package gate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/acme"
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
	"github.com/tallygate/tallygate/proxy"
	"github.com/tallygate/tallygate/validate"
)

// A state is everything that one configuration asks for, loaded and wired. It never
// changes; a gate that is configured anew gets another.
type state struct {
	cfg        *config.Config
	Trust      *mtls.Trust
	Issuer     *issuer.Issuer // nil: none is configured
	table      *policy.Table
	Validator  *validate.Validator
	Proxy      *proxy.Proxy
	directory  *x509.CertPool             // speaks for the ACME directory; nil: the system's
	keyPairs   map[string]tls.Certificate // of the listeners, by name; the others show what ACME brings
	tlsConfigs map[string]*tls.Config     // of those that speak TLS
}

// An buildOptions is what a state is made of beside its configuration.
type buildOptions struct {
	*telemetry
	trust    func() *mtls.Trust // the current state's; never called before there is one
	acme     *acme.Manager      // shown where there are no files; nil where nothing is served
	streams  *proxy.Streams     // nil for a command that serves nothing
	previous *state             // whose place the new one takes; nil for none
	parting  func() bool        // whether answers are to end their connections; nil: they are not
	own      *LocalIssuer       // another process's issuer, asked in place of the state's own; nil for none
}

// An LocalIssuer is what the gate asks our own issuer.
type LocalIssuer struct {
	validate.LocalIssuer
	Revoked func(access.Unchecked) bool
}

// buildState loads what cfg names (certificates, anchors, keys) and wires the parts. It
// opens no listener, sends nothing and leaves the issuer's state alone, so that check can
// call it. All faults are reported at once, and then nothing is left to close.
func buildState(cfg *config.Config, from buildOptions) (*state, error) {
	s := &state{cfg: cfg}
	before := from.previous
	if before == nil {
		before = &state{}
	}
	if err := filewatch.CheckFiles(cfg.Files()); err != nil {
		return nil, err
	}
	var faults [5]error
	s.keyPairs, faults[0] = loadKeyPairs(cfg)
	s.Trust, faults[1] = loadTrust(cfg, mtls.Options{Previous: before.Trust, Memory: from.memory, Log: from.log, Metrics: from.revocation})
	registered, noneRegistered := readRegistered(cfg, from.log)
	if s.Trust != nil {
		s.table = policy.New(cfg, policy.Certificates{Anchors: s.Trust.Anchors(), Registered: registered})
		faults[2] = s.makeIssuer(from, before)
	}
	if faults[2] == nil { // otherwise the issuer, which reads the same, has told the fault
		faults[2] = noneRegistered
	}
	if cfg.Issuer == nil || s.Issuer != nil { // otherwise its fault would be told twice
		faults[3] = s.makeValidator(from, before)
	}
	s.directory, faults[4] = acme.LoadDirectoryTrust(cfg.Listener.Certificate.ACME)
	err := errors.Join(faults[:]...)
	if err == nil {
		s.Proxy, err = proxy.New(cfg, proxy.Steps{
			Trust: s.Trust, Validator: s.Validator, Table: s.table,
		}, proxy.Options{
			Log: from.log, Metrics: from.requests, Previous: before.Proxy, Streams: from.streams, Parting: from.parting,
			Overloaded: from.load.Overloaded(&from.load.Partners, cfg.Listener.Limits.Requests),
			Room:       from.load.SlotsLeft(&from.load.Partners, cfg.Listener.Limits.Requests),
		})
	}
	if err != nil {
		if s.Validator != nil {
			s.Validator.Close(before.Validator)
		}
		return nil, err
	}
	s.buildTLSConfigs(from)
	return s, nil
}

// Load is assemble for a command that looks at a configuration and does not serve it. own
// may be nil.
func Load(cfg *config.Config, log *slog.Logger, own *LocalIssuer) (*state, error) {
	in, err := newTelemetry(log)
	if err != nil {
		return nil, err
	}
	s, err := buildState(cfg, buildOptions{telemetry: in, own: own})
	if err != nil {
		return nil, err
	}
	s.exportExpiry(in)
	s.warnInsecure(in)
	return s, nil
}

// makeIssuer makes the issuer, where cfg has one.
func (s *state) makeIssuer(from buildOptions, before *state) (err error) {
	if s.cfg.Issuer == nil {
		return nil
	}
	s.Issuer, err = issuer.New(s.cfg, issuer.Options{
		Anchors: s.Trust.Anchors(), ResourceServerAnchors: s.Trust.ResourceServerAnchors(),
		Certificate: s.Trust.Peer, Log: from.log, Metrics: from.registry, Previous: before.Issuer,
		Overloaded: from.load.Overloaded(&from.load.Issuer, s.cfg.Listener.Limits.Requests),
	})
	if err != nil {
		return err
	}
	return checkSocket(OperatorSocket(s.cfg))
}

func (s *state) makeValidator(from buildOptions, before *state) (err error) {
	options := validate.Options{Memory: from.memory, Log: from.log, Metrics: from.validation, Previous: before.Validator}
	if s.table != nil { // otherwise there is a fault, and others are looked for
		options.Partner = s.table.Holder
	}
	if s.Issuer != nil {
		own := from.own
		if own == nil {
			own = &LocalIssuer{validate.LocalIssuer{KeySet: s.Issuer.KeySet, Introspect: s.Issuer.Resolve}, s.Issuer.Revoked}
		}
		options.Local = map[config.Identifier]validate.LocalIssuer{s.cfg.Issuer.Issuer: own.LocalIssuer}
		options.Revoked = own.Revoked
	}
	s.Validator, err = validate.New(s.cfg.AuthorizationServers, options)
	return err
}

// buildTLSConfigs makes the TLS settings of the listeners. The issuer has one for mutual TLS
// and, where that is an alias (RFC 8705 section 5), one that never asks for a certificate.
func (s *state) buildTLSConfigs(from buildOptions) {
	listener := s.cfg.Listener
	settings := func(name string, judge func() *mtls.Trust, onFailure config.OnFailure) *tls.Config {
		pair, files := s.keyPairs[name]
		made := mtls.ServerConfig(judge, pair, listener.MinimumVersion, onFailure, from.handshakes)
		if !files {
			made.Certificates, made.GetCertificate = nil, from.acme.Certificate
		}
		return made
	}
	trust := from.trust // not from, which holds the state before
	peers := func() *mtls.Trust { return trust().Peers() }
	s.tlsConfigs = map[string]*tls.Config{PartnersListener: settings(PartnersListener, peers, listener.ClientCertificates.OnFailure)}
	if s.Issuer == nil {
		return
	}
	// The metadata and the key set are for everyone, so this listener finishes the
	// handshake whatever the certificate is; the endpoints judge it.
	mutual := settings(IssuerListener, from.trust, config.Answer)
	if s.cfg.Issuer.MTLSAlias == nil {
		s.tlsConfigs[IssuerListener] = mutual
		return
	}
	plain := mutual.Clone()
	plain.ClientAuth, plain.VerifyConnection = tls.NoClientCert, nil
	s.tlsConfigs[IssuerListener], s.tlsConfigs[AliasListener] = plain, mutual
}

// loadKeyPairs reads each listener's certificate and key, where they are in files. The issuer
// shows the partners' listener's where it has none of its own.
func loadKeyPairs(cfg *config.Config) (map[string]tls.Certificate, error) {
	pairs := map[string]tls.Certificate{}
	var err error
	if shown := cfg.Listener.Certificate; shown.ACME == nil {
		var pair tls.Certificate
		pair, err = mtls.LoadKeyPair(shown.Files)
		pairs[PartnersListener] = pair
		if cfg.Issuer != nil {
			pairs[IssuerListener] = pair
		}
	}
	if cfg.Issuer == nil {
		return pairs, err
	}
	if files := cfg.Issuer.Certificate.Files; files != (config.KeyPair{}) {
		own, noOwn := mtls.LoadKeyPair(files)
		pairs[IssuerListener], err = own, errors.Join(err, noOwn)
	}
	return pairs, err
}

// loadTrust reads the anchors, and holds them to belong to one partner each where nothing
// else tells two partners apart.
func loadTrust(cfg *config.Config, options mtls.Options) (*mtls.Trust, error) {
	trust, err := mtls.LoadTrust(cfg, options)
	if err != nil {
		return nil, err
	}
	return trust, policy.CheckAnchors(cfg, trust.Anchors())
}

// readRegistered reads the certificates that applications with self_signed_tls_client_auth
// register in files and in inline key sets, and holds each certificate to belong to one
// application. Keys that register none are warned of once: by the issuer, where there is
// one.
func readRegistered(cfg *config.Config, log *slog.Logger) (map[config.ClientID]map[access.Thumbprint]bool, error) {
	if cfg.Issuer != nil {
		log = slog.New(slog.DiscardHandler)
	}
	registered := make(map[config.ClientID]map[access.Thumbprint]bool)
	var faults []error
	for _, p := range cfg.Partners.List {
		for _, a := range p.Applications {
			if a.Authentication != config.SelfSignedTLSClientAuth {
				continue
			}
			read, err := registeredcerts.Registered(a.Keys, a.Certificate.Thumbprints, log.With("client_id", string(a.ClientID)))
			if err != nil {
				faults = append(faults, fmt.Errorf("client %s: %w", a.ClientID, err))
			}
			registered[a.ClientID] = read
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return registered, policy.CheckRegistered(cfg, registered)
}

// ReadOnce reads what a gate that serves keeps fresh, for a command that does not. Its
// error says what could not be read.
func (s *state) ReadOnce(ctx context.Context) error {
	return errors.Join(s.Trust.Read(ctx), s.Validator.RefreshOnce(ctx))
}

// Close ends what works for s, but for what is shared with heir, which has taken its
// place; nil for none. The issuer is not s's to close: all states have one.
func (s *state) Close(heir *state) {
	if heir == nil {
		heir = &state{}
	}
	s.Validator.Close(heir.Validator)
	s.Proxy.Close(heir.Proxy)
}

var errExpired = errors.New("the listener's certificate is not valid now")

// ready returns nil while partners can take the certificate that they are shown.
func (s *state) ready(now time.Time) error {
	pair, files := s.keyPairs[PartnersListener]
	if files && (now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter)) {
		return errExpired
	}
	return nil
}

// exportExpiry tells when each listener's certificate ends, and warns of one that has
// already.
func (s *state) exportExpiry(in *telemetry) {
	for name, pair := range s.keyPairs {
		in.expiries.WithLabelValues("server", name).Set(float64(pair.Leaf.NotAfter.Unix()))
		if time.Now().After(pair.Leaf.NotAfter) {
			in.log.Warn("listener certificate has expired", "listener", name, "not_after", pair.Leaf.NotAfter)
		}
	}
}

// warnInsecure warns of what weakens the gate by the operator's choice or oversight.
func (s *state) warnInsecure(in *telemetry) {
	if r := s.cfg.Listener.ClientCertificates.Revocation; len(r.Lists) > 0 && r.WhenStale == config.AcceptStale {
		in.log.Warn("certificates whose revocation status cannot be told are accepted")
	}
	for _, name := range s.cfg.Unlimited() {
		in.log.Warn("authorization server may speak for every partner beside others that may: name its own under partners", "issuer", string(name))
	}
	for _, p := range s.cfg.Partners.List {
		until := p.InsecureRSA1024Until
		switch {
		case until.IsZero():
		case time.Now().Before(until.End()):
			in.log.Warn("insecure: RSA keys of 1024 bits are accepted from a partner", "partner", string(p.Name), "until", until.String())
		default:
			in.log.Warn("RSA keys of 1024 bits are refused from a partner since the date of insecure_rsa_1024_until", "partner", string(p.Name), "until", until.String())
		}
	}
	for _, file := range s.cfg.Secrets() {
		if about, err := os.Stat(file); err == nil && about.Mode().Perm()&0o007 != 0 {
			in.log.Warn("secret is open to every user of this machine", "file", file, "mode", about.Mode().Perm().String())
		}
	}
}
