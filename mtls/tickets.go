package mtls

import (
	"crypto/rand"
	"crypto/tls"
	"slices"
	"sync"

	"github.com/tallygate/tallygate/access"
)

// Lacks reports whether a certificate that counted under before, for some partner, may
// count no more under t, so that no session of before may be resumed.
func (t *Trust) RemovesTrust(before *Trust) bool {
	for certificate := range before.certificates {
		if !t.certificates[certificate] { // which may have allowed more than another with its key
			return true
		}
	}
	for anchor, until := range before.rsa1024Until {
		if t.rsa1024Until[anchor].Before(until) {
			return true
		}
	}
	return before.selfSigned && !t.selfSigned || !t.frontProxies.same(before.frontProxies) || removesAnchor(t.anchors, before.anchors) || removesAnchor(t.servers, before.servers)
}

// lack reports whether before lists an anchor that now does not list for the same name.
func removesAnchor[N ~string](now, before map[N][]access.AnchorKey) bool {
	for name, anchors := range before {
		listed, ok := now[name]
		if !ok || slices.ContainsFunc(anchors, func(a access.AnchorKey) bool { return !slices.Contains(listed, a) }) {
			return true
		}
	}
	return false
}

// A Listener is the TLS side of one listener over the life of a process. Its settings may
// change, and connections that are open stay open. No ticket of one listener is good at
// another. It is safe for concurrent use.
type Listener struct {
	// outer is what crypto/tls begins a handshake with. It goes on with what current
	// returns, but the ticket keys remain those of outer, of which alone it takes them
	// where the inner settings have none of their own.
	outer *tls.Config

	mu   sync.Mutex
	keys [][32]byte // of tickets; the first seals
}

// NewListener returns a listener that goes by what current returns, of [ServerConfig], at
// the time of each handshake. One for which challenge, of an [ACME certificate manager], returns settings goes
// by those; nil for none.
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

// Config returns the settings for [tls.NewListener], which must not be cloned.
func (l *Listener) Config() *tls.Config { return l.outer }

// Forget lets no session be resumed that has begun so far.
func (l *Listener) InvalidateTickets() { l.rotateTicketKeys(0) }

// Rotate seals tickets by a new key. Those by the one before are still good, older ones
// are not: whoever calls it once a day bounds what a stolen key opens.
func (l *Listener) Rotate() { l.rotateTicketKeys(1) }

// seal makes a new key and keeps so many of the ones before.
func (l *Listener) rotateTicketKeys(keep int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	l.keys = append([][32]byte{key}, l.keys[:min(keep, len(l.keys))]...)
	l.outer.SetSessionTicketKeys(l.keys)
}
