package gate

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/revocation"
)

// endRevoked ends the connections of clients whose certificates an issuer revokes, until ctx ends. The number of revoked
// certificates never falls, so a changed number means that all connections must be checked. A revoked application has no
// connections of its own: its requests are refused, and its streams end at their recheck.
func (g *Gate) endRevoked(ctx context.Context) {
	tick := time.NewTicker(endRevokedInterval)
	defer tick.Stop()
	var seen *revocation.Set
	var length int
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		set := g.current.Load().revoked
		if set == nil {
			continue
		}
		if n := set.Len(revocation.Certificate); set != seen || n != length {
			seen, length = set, n
			g.endClients(set)
		}
	}
}

// endRevokedInterval bounds how long an idle connection of a revoked certificate stays open.
const endRevokedInterval = time.Second

// endClients ends the connections of clients with revoked certificates.
func (g *Gate) endClients(set *revocation.Set) {
	if set.Len(revocation.Certificate) == 0 {
		return
	}
	known := make(map[*x509.Certificate]bool) // connections of one client share the parsed certificate
	revoked := func(leaf *x509.Certificate) bool {
		is, ok := known[leaf]
		if !ok {
			is = set.Certificate(access.ThumbprintOf(leaf))
			known[leaf] = is
		}
		return is
	}
	for _, s := range g.servers {
		if s.TLS != nil {
			s.EndClients(revoked)
		}
	}
}
