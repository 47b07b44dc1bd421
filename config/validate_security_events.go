package config

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/ascii"
)

// The bounds of polls.
const (
	leastPollInterval = time.Second
	mostPollInterval  = time.Hour
	mostLongPoll      = 5 * time.Minute
	// PollTimeout bounds an answer beyond the time for which the server may hold it.
	PollTimeout      = 5 * time.Second
	leastStaleness   = 5 * time.Second
	mostStaleness    = 24 * time.Hour
	maxEventsPathLen = 100
)

// pushPaths has the path of the setting by each path at which Security Event Tokens arrive.
type pushPaths map[string]string

// securityEvents checks the settings of the Security Event Tokens of the server at path.
func (k *checker) securityEvents(path string, s *AuthorizationServer, pushed pushPaths) {
	e := s.SecurityEvents
	if e == nil {
		return
	}
	path += ".security_events"
	if k.isOwnIssuer(s.Issuer) {
		k.fault(path, "must not be set for our own issuer: the gate knows its revocations at once")
		return
	}
	k.text(path+".audience", e.Audience)
	if e.Poll == nil && e.Push == nil && !k.undecoded(path+".poll") && !k.undecoded(path+".push") {
		k.fault(path, "poll or push is required: without them, no event arrives")
	}
	if e.Poll != nil {
		k.poll(path, s)
	}
	if e.Push != nil {
		k.push(path+".push", e.Push, pushed)
	}
	k.eventsState(path+".state", e)
	k.require(path+".when_stale", e.WhenStale != "")
	if e.WhenStale == IntrospectRevocationsStale && s.Introspection == nil && k.decodedFully(path) {
		k.fault(path+".when_stale", "introspect needs introspection")
	}
}

// poll checks the settings of the polls of the server whose security_events are at path.
func (k *checker) poll(path string, s *AuthorizationServer) {
	e, poll := s.SecurityEvents, path+".poll"
	k.require(poll+".endpoint", e.Poll.Endpoint != nil)
	if u := e.Poll.Endpoint; u != nil && !s.Connection.Secure(&u.URL) {
		k.fault(poll+".endpoint", "must start with https://: the gate sends its credentials there%s", s.Connection.hint(&u.URL))
	}
	k.inRange(poll+".interval", e.Poll.Interval, leastPollInterval, mostPollInterval)
	k.inRange(poll+".long_poll", e.Poll.LongPoll, 0, mostLongPoll)
	k.inRange(path+".max_staleness", e.MaxStaleness, leastStaleness, mostStaleness)
	// A single lost poll must not make the revocations stale.
	if least := 2 * (max(e.Poll.Interval, e.Poll.LongPoll) + PollTimeout); e.MaxStaleness < least && k.decodedFully(poll) {
		k.fault(path+".max_staleness", "must be at least %v: twice the sum of %v and the longer of poll.interval and poll.long_poll", least, PollTimeout)
	}
	k.pollAuthentication(poll+".authentication", s)
}

// pollAuthentication checks that the authentication method of polls has the settings that it needs, and
// no settings of other methods.
func (k *checker) pollAuthentication(path string, s *AuthorizationServer) {
	a := &s.SecurityEvents.Poll.Authentication
	k.require(path+".method", a.Method != "")
	if a.Method == "" || k.undecoded(path+".method") {
		return
	}
	connection := strings.TrimSuffix(path, ".security_events.poll.authentication") + ".connection"
	if a.Method == PollTLS && s.Connection.Certificate == (KeyPair{}) && k.decodedFully(connection) {
		k.fault(path+".method", "tls_client_auth needs the gate's own certificate: connection.certificate")
	}
	for _, of := range []struct {
		key    string
		set    bool
		method PollMethod
	}{
		{"client_id", a.ClientID != "", PollSecretBasic},
		{"secret_file", a.SecretFile != "", PollSecretBasic},
		{"token_file", a.TokenFile != "", PollBearer},
	} {
		switch {
		case a.Method == of.method:
			k.require(path+"."+of.key, of.set)
		case of.set:
			k.fault(path+"."+of.key, "is for %s only", of.method)
		}
	}
}

// push checks the settings of the endpoint at path.
func (k *checker) push(path string, p *SecurityEventsPush, pushed pushPaths) {
	if k.config.Issuer == nil && !k.undecoded("issuer") {
		k.fault(path, "needs issuer in the same file: the events arrive at the issuer's listener; use poll without one")
	}
	name, ok := strings.CutPrefix(p.Path, SecurityEventsPath)
	other := func(c byte) bool { return !ascii.IsAlphanumeric(c) && c != '-' && c != '_' }
	if !ok || name == "" || len(p.Path) > maxEventsPathLen || slices.ContainsFunc([]byte(name), other) {
		k.fault(path+".path", "must be %s and a name of letters, digits, - and _", SecurityEventsPath)
	}
	unique(k, pushed, path+".path", "the path", p.Path)
	if own := k.config.Issuer; own != nil {
		if u, err := url.Parse(string(own.Issuer)); err == nil && strings.HasPrefix(u.EscapedPath()+"/", SecurityEventsPath) {
			k.fault(path+".path", "could be an endpoint of the issuer, whose path begins with %s", SecurityEventsPath)
		}
	}
	if p.AuthorizationFile == "" && len(p.Thumbprints) == 0 && k.decodedFully(path) {
		k.fault(path, "authorization_file or thumbprints is required: without them, anybody can send events to the endpoint")
	}
	distinct(k, path+".thumbprints", p.Thumbprints)
}

// eventsState checks where the received revocations are kept.
func (k *checker) eventsState(path string, e *SecurityEvents) {
	switch {
	case k.undecoded("issuer") || k.undecoded(path):
	case k.config.Issuer == nil:
		k.require(path, e.State != "")
	case e.State != "":
		k.fault(path, "must not be set together with issuer: the issuer's state has the revocations")
	}
}
