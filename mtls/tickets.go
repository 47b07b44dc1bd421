package mtls

import (
	"crypto/rand"
	"crypto/tls"
	"slices"
	"sync"

	"github.com/tallygate/tallygate/access"
)

// RemovesTrust reports whether t may refuse a client certificate that before accepts for at least one
// partner. If so, sessions that began under before must not be resumed.
func (t *Trust) RemovesTrust(before *Trust) bool {
	for certificate := range before.certificates {
		if !t.certificates[certificate] { // a new certificate with the same key may have more constraints
			return true
		}
	}
	for anchor, until := range before.rsa1024Until {
		if t.rsa1024Until[anchor].Before(until) {
			return true
		}
	}
	if before.serverAuth && !t.serverAuth {
		return true
	}
	return before.selfSigned && !t.selfSigned || !t.frontProxies.equal(before.frontProxies) || removesAnchor(t.anchors, before.anchors) || removesAnchor(t.servers, before.servers) || removesAnchor(t.operators, before.operators)
}

// removesAnchor reports whether any name has an anchor in before that it lacks in now.
func removesAnchor[N ~string](now, before map[N][]access.AnchorKey) bool {
	for name, anchors := range before {
		listed, ok := now[name]
		if !ok || slices.ContainsFunc(anchors, func(a access.AnchorKey) bool { return !slices.Contains(listed, a) }) {
			return true
		}
	}
	return false
}

// A Listener has the TLS configuration and the session ticket keys of one listener for the lifetime
// of the process. The configuration may change at a reload; open connections stay open. Listeners do
// not share ticket keys. A Listener is safe for concurrent use.
type Listener struct {
	// outer starts every handshake; GetConfigForClient then switches to the current configuration.
	// crypto/tls keeps using outer's session ticket keys after the switch, because the current
	// configuration sets none. Rotate and InvalidateTickets therefore act on outer.
	outer *tls.Config

	mu   sync.Mutex
	keys [][32]byte // session ticket keys; the first encrypts new tickets
}

// NewListener returns a Listener. Each handshake uses the configuration that current, which calls
// [ServerConfig], returns at that time. challenge answers ACME challenges: if it returns a
// configuration, the handshake uses this configuration instead. challenge may be nil.
func NewListener(current func() *tls.Config, challenge func(*tls.ClientHelloInfo) *tls.Config) *Listener {
	l := &Listener{outer: &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: slices.Clone(protocols),
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if challenge != nil {
				if settings := challenge(hello); settings != nil {
					return settings, nil
				}
			}
			return current(), nil
		},
	}}
	l.InvalidateTickets()
	return l
}

// Config returns the configuration for [tls.NewListener]. Callers must not clone it, because a clone
// would not get later ticket keys.
func (l *Listener) Config() *tls.Config { return l.outer }

// InvalidateTickets replaces all ticket keys, so that clients cannot resume any earlier session.
func (l *Listener) InvalidateTickets() { l.rotateTicketKeys(0) }

// Rotate makes a new ticket key. Tickets of the previous key stay valid, and older tickets become
// invalid. A daily call thus bounds the sessions that a stolen key decrypts.
func (l *Listener) Rotate() { l.rotateTicketKeys(1) }

// rotateTicketKeys makes a new key and keeps as many previous keys as keep says.
func (l *Listener) rotateTicketKeys(keep int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var key [32]byte
	_, _ = rand.Read(key[:]) // rand.Read never fails
	l.keys = append([][32]byte{key}, l.keys[:min(keep, len(l.keys))]...)
	l.outer.SetSessionTicketKeys(l.keys)
}
