package main

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
	cfg       *config.Config
	trust     *mtls.Trust
	issuer    *issuer.Issuer // nil: none is configured
	table     *policy.Table
	validator *validate.Validator
	proxy     *proxy.Proxy
	directory *x509.CertPool             // speaks for the ACME directory; nil: the system's
	pairs     map[string]tls.Certificate // of the listeners, by name; the others show what ACME brings
	settings  map[string]*tls.Config     // of those that speak TLS
}

// An origin is what a state is made of beside its configuration.
type origin struct {
	*instruments
	trust   func() *mtls.Trust // the current state's; never called before there is one
	acme    *acme.Manager      // shown where there are no files; nil where nothing is served
	streams *proxy.Streams     // nil for a command that serves nothing
	before  *state             // whose place the new one takes; nil for none
	parting func() bool        // whether answers are to end their connections; nil: they are not
	own     *ownIssuer         // another process's issuer, asked in place of the state's own; nil for none
}

// An ownIssuer is what the gate asks our own issuer.
type ownIssuer struct {
	validate.LocalIssuer
	revoked func(access.Unchecked) bool
}

// assemble loads what cfg names (certificates, anchors, keys) and wires the parts. It
// opens no listener, sends nothing and leaves the issuer's state alone, so that check can
// call it. All faults are reported at once, and then nothing is left to close.
func assemble(cfg *config.Config, from origin) (*state, error) {
	s := &state{cfg: cfg}
	before := from.before
	if before == nil {
		before = &state{}
	}
	if err := checkFiles(cfg); err != nil {
		return nil, err
	}
	var faults [5]error
	s.pairs, faults[0] = loadPairs(cfg)
	s.trust, faults[1] = loadTrust(cfg, mtls.Options{Previous: before.trust, Memory: from.memory, Log: from.log, Metrics: from.revocation})
	registered, noneRegistered := readRegistered(cfg, from.log)
	if s.trust != nil {
		s.table = policy.New(cfg, policy.Certificates{Anchors: s.trust.Anchors(), Registered: registered})
		faults[2] = s.makeIssuer(from, before)
	}
	if faults[2] == nil { // otherwise the issuer, which reads the same, has told the fault
		faults[2] = noneRegistered
	}
	if cfg.Issuer == nil || s.issuer != nil { // otherwise its fault would be told twice
		faults[3] = s.makeValidator(from, before)
	}
	s.directory, faults[4] = acme.LoadDirectoryTrust(cfg.Listener.Certificate.ACME)
	err := errors.Join(faults[:]...)
	if err == nil {
		s.proxy, err = proxy.New(cfg, proxy.Steps{
			Trust: s.trust, Validator: s.validator, Table: s.table,
		}, proxy.Options{
			Log: from.log, Metrics: from.requests, Previous: before.proxy, Streams: from.streams, Parting: from.parting,
			Overloaded: from.load.over(&from.load.partners, cfg.Listener.Limits.Requests),
			Room:       from.load.room(&from.load.partners, cfg.Listener.Limits.Requests),
		})
	}
	if err != nil {
		if s.validator != nil {
			s.validator.Close(before.validator)
		}
		return nil, err
	}
	s.makeSettings(from)
	return s, nil
}

// load is assemble for a command that looks at a configuration and does not serve it. own
// may be nil. Its errors carry the exit code.
func load(cfg *config.Config, log *slog.Logger, own *ownIssuer) (*state, error) {
	in, err := newInstruments(log)
	if err != nil {
		return nil, err
	}
	s, err := assemble(cfg, origin{instruments: in, own: own})
	if err != nil {
		return nil, withCode(exitConfiguration, err)
	}
	s.tellExpiries(in)
	s.tellRisks(in)
	return s, nil
}

// makeIssuer makes the issuer, where cfg has one.
func (s *state) makeIssuer(from origin, before *state) (err error) {
	if s.cfg.Issuer == nil {
		return nil
	}
	s.issuer, err = issuer.New(s.cfg, issuer.Options{
		Anchors: s.trust.Anchors(), ResourceServerAnchors: s.trust.ResourceServerAnchors(),
		Certificate: s.trust.Peer, Log: from.log, Metrics: from.registry, Previous: before.issuer,
		Overloaded: from.load.over(&from.load.issuer, s.cfg.Listener.Limits.Requests),
	})
	if err != nil {
		return err
	}
	return checkSocket(operatorSocket(s.cfg))
}

func (s *state) makeValidator(from origin, before *state) (err error) {
	options := validate.Options{Memory: from.memory, Log: from.log, Metrics: from.validation, Previous: before.validator}
	if s.table != nil { // otherwise there is a fault, and others are looked for
		options.Partner = s.table.Holder
	}
	if s.issuer != nil {
		own := from.own
		if own == nil {
			own = &ownIssuer{validate.LocalIssuer{KeySet: s.issuer.KeySet, Introspect: s.issuer.Resolve}, s.issuer.Revoked}
		}
		options.Local = map[config.Identifier]validate.LocalIssuer{s.cfg.Issuer.Issuer: own.LocalIssuer}
		options.Revoked = own.revoked
	}
	s.validator, err = validate.New(s.cfg.AuthorizationServers, options)
	return err
}

// makeSettings makes the TLS settings of the listeners. The issuer has one for mutual TLS
// and, where that is an alias (RFC 8705 section 5), one that never asks for a certificate.
func (s *state) makeSettings(from origin) {
	listener := s.cfg.Listener
	settings := func(name string, judge func() *mtls.Trust, onFailure config.OnFailure) *tls.Config {
		pair, files := s.pairs[name]
		made := mtls.ServerConfig(judge, pair, listener.MinimumVersion, onFailure, from.handshakes)
		if !files {
			made.Certificates, made.GetCertificate = nil, from.acme.Certificate
		}
		return made
	}
	trust := from.trust // not from, which holds the state before
	peers := func() *mtls.Trust { return trust().Peers() }
	s.settings = map[string]*tls.Config{partnersListener: settings(partnersListener, peers, listener.ClientCertificates.OnFailure)}
	if s.issuer == nil {
		return
	}
	// The metadata and the key set are for everyone, so this listener finishes the
	// handshake whatever the certificate is; the endpoints judge it.
	mutual := settings(issuerListener, from.trust, config.Answer)
	if s.cfg.Issuer.MTLSAlias == nil {
		s.settings[issuerListener] = mutual
		return
	}
	plain := mutual.Clone()
	plain.ClientAuth, plain.VerifyConnection = tls.NoClientCert, nil
	s.settings[issuerListener], s.settings[aliasListener] = plain, mutual
}

// loadPairs reads each listener's certificate and key, where they are in files. The issuer
// shows the partners' listener's where it has none of its own.
func loadPairs(cfg *config.Config) (map[string]tls.Certificate, error) {
	pairs := map[string]tls.Certificate{}
	var err error
	if shown := cfg.Listener.Certificate; shown.ACME == nil {
		var pair tls.Certificate
		pair, err = mtls.LoadKeyPair(shown.Files)
		pairs[partnersListener] = pair
		if cfg.Issuer != nil {
			pairs[issuerListener] = pair
		}
	}
	if cfg.Issuer == nil {
		return pairs, err
	}
	if files := cfg.Issuer.Certificate.Files; files != (config.KeyPair{}) {
		own, noOwn := mtls.LoadKeyPair(files)
		pairs[issuerListener], err = own, errors.Join(err, noOwn)
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

// readOnce reads what a gate that serves keeps fresh, for a command that does not. Its
// error says what could not be read.
func (s *state) readOnce(ctx context.Context) error {
	return errors.Join(s.trust.Read(ctx), s.validator.RefreshOnce(ctx))
}

// close ends what works for s, but for what is shared with heir, which has taken its
// place; nil for none. The issuer is not s's to close: all states have one.
func (s *state) close(heir *state) {
	if heir == nil {
		heir = &state{}
	}
	s.validator.Close(heir.validator)
	s.proxy.Close(heir.proxy)
}

var errExpired = errors.New("the listener's certificate is not valid now")

// ready returns nil while partners can take the certificate that they are shown.
func (s *state) ready(now time.Time) error {
	pair, files := s.pairs[partnersListener]
	if files && (now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter)) {
		return errExpired
	}
	return nil
}

// tellExpiries tells when each listener's certificate ends, and warns of one that has
// already.
func (s *state) tellExpiries(in *instruments) {
	for name, pair := range s.pairs {
		in.expiries.WithLabelValues("server", name).Set(float64(pair.Leaf.NotAfter.Unix()))
		if time.Now().After(pair.Leaf.NotAfter) {
			in.log.Warn("listener certificate has expired", "listener", name, "not_after", pair.Leaf.NotAfter)
		}
	}
}

// tellRisks warns of what weakens the gate by the operator's choice or oversight.
func (s *state) tellRisks(in *instruments) {
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
