package revocation

import (
	"crypto/sha256"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// unknownAge is the age that is assumed for a token without iat. No token of our own issuer lives longer.
const unknownAge = 24 * time.Hour

// Rules say which tokens the entries of a [Set] revoke. They never change, so they are safe for concurrent use.
type Rules struct {
	own     string                   // identifier of the issuer whose tokens the kind Token revokes
	owners  map[string]string        // partner by client_id
	servers map[string]foreignServer // by issuer identifier
}

// A foreignServer is an authorization server other than the issuer that publishes the revocations.
type foreignServer struct {
	leeway time.Duration
	sum    [sha256.Size]byte // SHA-256 of the issuer identifier
}

// NewRules returns the rules for cfg. own is the identifier of the issuer that publishes the revocations.
func NewRules(cfg *config.Config, own config.Identifier) *Rules {
	r := &Rules{own: string(own), owners: make(map[string]string), servers: make(map[string]foreignServer)}
	for _, p := range cfg.Partners.List {
		for _, a := range p.Applications {
			r.owners[string(a.ClientID)] = string(p.Name)
		}
	}
	for i := range cfg.AuthorizationServers {
		s := &cfg.AuthorizationServers[i]
		r.servers[string(s.Issuer)] = foreignServer{s.Leeway, sumOf(string(s.Issuer))}
	}
	return r
}

// Revoked reports whether set revokes token, see [Rules.RevokedBy].
func (r *Rules) Revoked(set *Set, token *access.Unchecked, now time.Time) bool {
	return r.RevokedBy(set, token, now) != 0
}

// RevokedBy returns the kind of an entry by which set revokes token, or 0 if set does not revoke token. A token of our own
// issuer, or of another authorization server that publishes revocations, may be revoked itself. A token of any
// authorization server is also revoked by a revocation of its application, of the application's partner, or of the
// certificate that the token is bound to. The iat of another server's token is reduced by the configured leeway, because
// the clock of the other server may be ahead. A token without iat counts as 24 hours old at now. RevokedBy computes a
// hash, looks into a few maps, and does not allocate.
func (r *Rules) RevokedBy(set *Set, token *access.Unchecked, now time.Time) Kind {
	issued := token.IssuedAt
	if token.Issuer == r.own {
		if set.tokens.size.Load() > 0 {
			if _, ok := set.tokens.get(sumOf(token.TokenID)); ok {
				return Token
			}
		}
	} else {
		if issued.IsZero() {
			issued = now.Add(-unknownAge)
		}
		server, ok := r.servers[token.Issuer]
		if !ok {
			server.sum = sumOf(token.Issuer)
		}
		issued = issued.Add(-server.leeway)
		if by := foreignRevokedBy(set, server.sum, token, issued.Unix()); by != 0 {
			return by
		}
	}
	switch {
	case covers(set.applications, token.ClientID, issued.Unix()):
		return Application
	case set.partners.size.Load() > 0 && covers(set.partners, r.owners[token.ClientID], issued.Unix()):
		return Partner
	case set.Certificate(token.Confirmation.Thumbprint):
		return Certificate
	}
	return 0
}

// foreignRevokedBy returns ForeignToken or ForeignSubject if the other authorization server has revoked token, and
// otherwise 0.
func foreignRevokedBy(set *Set, iss [sha256.Size]byte, token *access.Unchecked, issued int64) Kind {
	if token.TokenID != "" && set.foreignTokens.size.Load() > 0 {
		if _, ok := set.foreignTokens.get(foreignSum(iss, token.TokenID)); ok {
			return ForeignToken
		}
	}
	if covers(set.subjects, foreignSubject{token.Issuer, token.Subject}, issued) ||
		covers(set.subjects, foreignSubject{token.Issuer, token.ClientID}, issued) {
		return ForeignSubject
	}
	return 0
}

// covers reports whether a token that was issued to key at the time issued is revoked.
func covers[K comparable](upTo *table[K], key K, issued int64) bool {
	last, ok := upTo.get(key)
	return ok && issued <= last
}
