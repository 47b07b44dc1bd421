package gate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/acme"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/tracing"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
	"github.com/tallygate/tallygate/proxy"
	"github.com/tallygate/tallygate/revocation"
	"github.com/tallygate/tallygate/revocation/subscriber"
	"github.com/tallygate/tallygate/validate"
)

// A state has all that a configuration describes, loaded and connected. A state never changes; a
// reload builds a new state.
type state struct {
	cfg        *config.Config
	lease      *reuse.Lease           // holds the objects that s shares with other states
	revoked    *revocation.Set        // what our own issuer, or the issuer of the feed, has revoked; nil without both
	subscriber *subscriber.Subscriber // to the feed of revocations; nil without the setting
	Trust      *mtls.Trust
	Issuer     *issuer.Issuer // nil: no issuer is configured
	table      *policy.Table
	Validator  *validate.Validator
	events     *securityEvents
	Checks     *authorize.Checks
	Proxy      *proxy.Proxy
	tracer     *tracing.Tracer            // nil: no request is traced
	directory  *x509.CertPool             // trust anchors of the ACME directory; nil: the system's anchors
	keyPairs   map[string]tls.Certificate // by listener; a listener without an entry has a certificate from ACME
	tlsConfigs map[string]*tls.Config     // by listener; a listener without TLS has no entry
}

// buildOptions are the inputs of buildState besides the configuration.
type buildOptions struct {
	*telemetry
	trust   func() *mtls.Trust    // returns the current state's Trust; called only after the first state is built
	issuer  func() *issuer.Issuer // returns the current state's Issuer; called only after the first state is built
	acme    *acme.Manager         // provides certificates that are not in files; nil for a command that does not serve
	streams *proxy.Streams        // nil for a command that does not serve
	pool    *reuse.Pool           // objects to share with other states; nil: nothing is shared
	closing func() bool           // reports whether responses must close their connections; nil: no response must
	own     *LocalIssuer          // the running issuer of another process; nil: the state's own issuer
	at      time.Time             // the time at which requests are judged; zero: the time of the request
}

// clock returns the clock by which requests are judged, or nil for the clock of the machine.
func (o buildOptions) clock() func() time.Time {
	if o.at.IsZero() {
		return nil
	}
	return func() time.Time { return o.at }
}

// A LocalIssuer is the part of our own issuer that decides about requests.
type LocalIssuer struct {
	validate.LocalIssuer
	Revoked      func(access.Unchecked) (revocation.Kind, error)
	Certificates mtls.Revocations
}

// buildState loads the files that cfg names (certificates, anchors, keys) and connects the parts. It
// opens no listener, sends no request and does not open the issuer's state, so that the command check
// can call it. The error lists all faults. With an error, buildState leaves nothing open.
func buildState(cfg *config.Config, from buildOptions) (*state, error) {
	if err := filewatch.CheckFiles(cfg.Files()); err != nil {
		return nil, err
	}
	s := &state{cfg: cfg, lease: from.pool.Lease()}
	var noKeyPairs, noTrust, noIssuer, noValidator, noDirectory error
	s.keyPairs, noKeyPairs = loadKeyPairs(cfg)
	noRevocations := s.makeRevocations(from)
	s.Trust, noTrust = loadTrust(cfg, s.lease, mtls.Options{
		Revocations: s.revokedCertificates(from), Memory: from.memory, Log: from.log, Metrics: from.revocation, Now: from.clock(),
	})
	registered, noRegistered := readRegistered(cfg, from.log)
	if s.Trust != nil {
		s.table = policy.New(cfg, policy.Certificates{Anchors: s.Trust.Anchors(), Registered: registered})
		noIssuer = s.makeIssuer(from)
	}
	if noIssuer == nil { // with an error of makeIssuer, the same fault is in that error already
		noIssuer = noRegistered
	}
	if cfg.Issuer == nil || s.Issuer != nil { // if the issuer could not be built, the validator would report the same fault again
		noValidator = s.makeValidator(from)
	}
	if errors.Is(noRevocations, errNoConnection) && noValidator != nil { // the same fault
		noRevocations = nil
	}
	s.directory, noDirectory = acme.LoadDirectoryTrust(cfg.Listener.Certificate.ACME)
	err := errors.Join(noKeyPairs, noRevocations, noTrust, noIssuer, noValidator, noDirectory)
	if err == nil {
		err = errors.Join(s.makeSecurityEvents(from), s.makeProxy(from))
	}
	if err != nil {
		s.release()
		return nil, err
	}
	s.buildTLSConfigs(from)
	return s, nil
}

// LoadOptions are inputs of [Load] that only some commands set.
type LoadOptions struct {
	Own *LocalIssuer // the issuer that another process runs, or nil
	At  time.Time    // the time at which requests are judged; zero: the time of the request
}

// Load builds the state for a command that inspects a configuration and does not serve.
func Load(cfg *config.Config, log *slog.Logger, options LoadOptions) (*state, error) {
	in := newTelemetry(log)
	s, err := buildState(cfg, buildOptions{telemetry: in, own: options.Own, at: options.At})
	if err != nil {
		return nil, err
	}
	s.warnInsecure(in.log)
	return s, nil
}

// makeIssuer builds the issuer if cfg has an issuer.
func (s *state) makeIssuer(from buildOptions) (err error) {
	if s.cfg.Issuer == nil {
		return nil
	}
	s.Issuer, err = issuer.New(s.cfg, issuer.Options{
		Anchors: s.Trust.Anchors(), ResourceServerAnchors: s.Trust.ResourceServerAnchors(), OperatorAnchors: s.Trust.OperatorAnchors(),
		Certificate: s.Trust.Peer, Log: from.log, Metrics: from.registry, Lease: s.lease, Now: from.clock(),
		Overloaded: from.load.Overloaded(&from.load.Issuer, s.cfg.Listener.Limits.Requests), Requests: &from.load.Issuer, Current: from.issuer,
		Revocations: s.revoked,
	})
	if err != nil {
		return err
	}
	if s.cfg.Issuer.Database != nil {
		return nil
	}
	return checkSocket(OperatorSocket(s.cfg))
}

func (s *state) makeValidator(from buildOptions) (err error) {
	options := validate.Options{Memory: from.memory, Log: from.log, Metrics: from.validation, Lease: s.lease, At: from.at}
	if s.table != nil { // after a fault s.table is nil, and the validator is built only to find further faults
		options.Partner = s.table.Holder
		options.Renewed = func(server, clientID string, bound access.Thumbprint, cert *access.Certificate) bool {
			// If bound is the certificate of an authority, the token was bound to the wrong certificate of
			// the client's chain, and the client's certificate was not renewed.
			return !s.Trust.IsAuthority(bound) && s.table.Renewed(server, clientID, bound, cert)
		}
	}
	if s.Issuer != nil {
		own := from.own
		if own == nil {
			own = &LocalIssuer{validate.LocalIssuer{KeySet: s.Issuer.KeySet, Introspect: s.Issuer.Resolve}, s.Issuer.RevokedBy, s.revoked}
		}
		options.Local = map[config.Identifier]validate.LocalIssuer{s.cfg.Issuer.Issuer: own.LocalIssuer}
		options.Revoked = func(token *access.Unchecked) (validate.RevocationStatus, error) {
			return statusBy(own.Revoked(*token))
		}
	}
	if s.subscriber != nil {
		options.Revoked = s.feedStatus(from.streams != nil)
	}
	options.Revoked, options.IntrospectedWithin = s.withSecurityEvents(options.Revoked), s.introspectedWithin()
	if s.cfg.TakesDPoP() {
		options.DPoP = &s.cfg.DPoP
	}
	s.Validator, err = validate.New(s.cfg.AuthorizationServers, options)
	return err
}

// makeTracer returns the tracer, or nil if no request is traced. A command that does not serve checks the
// settings only.
func (s *state) makeTracer(from buildOptions) (*tracing.Tracer, error) {
	if from.streams == nil {
		return nil, tracing.Check(s.cfg.Tracing)
	}
	return tracing.New(s.cfg, tracing.Options{Log: from.log, Metrics: from.spans, Lease: s.lease})
}

func (s *state) makeProxy(from buildOptions) (err error) {
	if s.tracer, err = s.makeTracer(from); err != nil {
		return err
	}
	requests := s.cfg.Listener.Limits.Requests
	s.Checks = authorize.New(s.cfg, s.Trust, s.Validator, s.table)
	s.Proxy, err = proxy.New(s.cfg, s.Checks, proxy.Options{
		Log: from.log, Metrics: from.requests, Lease: s.lease, Streams: from.streams, Tracer: s.tracer, Closing: from.closing,
		Overloaded: from.load.Overloaded(&from.load.Partners, requests), SlotsLeft: from.load.SlotsLeft(&from.load.Partners, requests),
	})
	return err
}

// buildTLSConfigs makes the TLS settings of all listeners. At the issuer's listener, mutual TLS is on.
// If mutual TLS has a listener of its own as an alias (RFC 8705 section 5), the main listener of the
// issuer never requests a certificate.
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
	peers := func() *mtls.Trust { return from.trust().PeerTrust() }
	s.tlsConfigs = map[string]*tls.Config{PartnersListener: settings(PartnersListener, peers, listener.ClientCertificates.OnFailure)}
	if s.Issuer == nil {
		return
	}
	// Metadata and key set are public, so the handshake succeeds with any client certificate, and the
	// endpoints check the certificate.
	mutual := settings(IssuerListener, from.trust, config.Respond)
	if s.cfg.Issuer.MTLSAlias == nil {
		s.tlsConfigs[IssuerListener] = mutual
		return
	}
	plain := mutual.Clone()
	plain.ClientAuth, plain.VerifyConnection = tls.NoClientCert, nil
	s.tlsConfigs[IssuerListener], s.tlsConfigs[AliasListener] = plain, mutual
}

// ReadOnce fetches once the documents that a serving gate keeps fresh: revocation lists, metadata and
// key sets. The error lists the failures.
func (s *state) ReadOnce(ctx context.Context) error {
	return errors.Join(s.Trust.Prefetch(ctx), s.Validator.RefreshOnce(ctx))
}

// release gives up connections, caches and background work that no other state holds. Requests that
// still use s continue.
func (s *state) release() { s.lease.Release() }

// Close releases s at the end of the process, and cancels the requests that run in the background. The
// issuer stays open, since all states share it.
func (s *state) Close() {
	s.Validator.CancelRequests()
	s.release()
}

var errExpired = errors.New("the listener's certificate has expired or is not yet valid")

// ready returns nil while the partners' listener has a valid certificate, the feed of revocations has synced, and no events of a
// required server are missing.
func (s *state) ready(now time.Time) error {
	pair, files := s.keyPairs[PartnersListener]
	if files && (now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter)) {
		return errExpired
	}
	return errors.Join(s.feedReady(), s.events.ready(s.cfg.AuthorizationServers))
}
