package serverconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/product"
)

// The claims in which the command looks for the client, and the claims in which it looks for the
// scopes, in order.
var (
	clientClaims = []string{"client_id", "azp", "appid", "cid", "client", "sub"}
	scopeClaims  = []string{"scope", "scp", "permissions"}
)

// A sample is an access token of the server, read without verifying its signature.
type sample struct {
	opaque bool
	jws    *jwks.JWS // nil for an opaque token and without a token
	claims map[string]facts.Member
	marks  product.Claims
}

// readToken reads the sample token of the issuer. Errors do not quote the token.
func readToken(raw, issuer string) (*sample, error) {
	t := &sample{}
	if raw == "" {
		return t, nil
	}
	if !jwks.IsJWS(raw) {
		t.opaque = true
		return t, nil
	}
	var err error
	if t.jws, err = jwks.Parse(raw); err != nil {
		return nil, fmt.Errorf("the token: %w", err)
	}
	names := slices.Concat([]string{"iss", "aud", "cnf", "exp", "roles"}, clientClaims, scopeClaims, product.Names)
	if t.claims, err = facts.Select(t.jws.Payload, names...); err != nil {
		return nil, errors.New("the token: its claims are no valid JSON object")
	}
	t.marks = make(product.Claims)
	for _, c := range product.Names {
		if t.claims[c] != nil {
			t.marks[c] = t.text(c)
		}
	}
	if iss := t.text("iss"); iss != issuer {
		return nil, fmt.Errorf("the token's iss is %q, and the server's issuer is %q: run tallygate configure-server with the token's issuer", access.Truncate(iss), access.Truncate(issuer))
	}
	return t, nil
}

// text returns the value of a claim, or "" if the value is not a string.
func (t *sample) text(claim string) string {
	s, _ := t.claims[claim].Text()
	return s
}

// fit changes the settings of the profile that do not fit the token.
func (p *Proposal) fit(b *block, t *sample) {
	s := &b.settings
	p.fitHeader(b, t)
	if !slices.ContainsFunc(s.ClientClaim, func(c config.ClaimName) bool { return t.text(string(c)) != "" }) {
		i := slices.IndexFunc(clientClaims, func(c string) bool { return t.text(c) != "" })
		if i < 0 {
			p.missing("the token names no client: none of the claims %s is a string", strings.Join(clientClaims, ", "))
		} else {
			s.ClientClaim = []config.ClaimName{config.ClaimName(clientClaims[i])}
			b.note("client_claim", "the claim of the token that names its client")
			if clientClaims[i] == "sub" {
				b.note("client_claim", "WARNING: sub is a user in tokens of users; use this only for tokens of client_credentials")
			}
		}
	}
	roles := s.RolesAsScopes != "" && t.claims[string(s.RolesAsScopes)] != nil
	if t.claims[string(s.ScopeClaim)] == nil && !roles {
		if i := slices.IndexFunc(scopeClaims, func(c string) bool { return t.claims[c] != nil }); i >= 0 {
			s.ScopeClaim = config.ClaimName(scopeClaims[i])
			b.note("scope_claim", "the claim of the token that has its scopes")
		} else {
			p.found("the token has no scopes: routes with scopes refuse it")
		}
	}
	if t.confirmationInExt() {
		s.ConfirmationClaim = config.ExtCNF
	}
}

// fitHeader changes the algorithms and types of the profile if the profile does not accept the token's
// alg or typ.
func (p *Proposal) fitHeader(b *block, t *sample) {
	s := &b.settings
	alg := config.Algorithm(t.jws.Algorithm)
	switch {
	case !slices.Contains(config.Algorithms(), alg):
		p.missing("the token's alg is %q, and the gate accepts none but %s: choose another at the server", access.Truncate(t.jws.Algorithm), config.Algorithms())
	case !slices.Contains(s.Algorithms, alg) && (alg != config.Ed25519 || !slices.Contains(s.Algorithms, config.EdDSA)):
		s.Algorithms = []config.Algorithm{alg}
		b.note("algorithms", "the token's alg")
	}
	typ := strings.ToLower(t.jws.Type)
	typ = strings.TrimPrefix(typ, "application/")
	switch {
	case !t.jws.NamesType:
		typ = config.NoType
	case typ == "jwt":
		typ = "JWT"
	case typ != "at+jwt":
		p.missing("the token's typ is %q, which is not the type of an access token (RFC 9068 section 2.1)", access.Truncate(t.jws.Type))
		return
	}
	if !slices.Contains(s.Types, typ) {
		s.Types = []string{typ}
		b.note("types", "the token's typ; at+jwt (RFC 9068) keeps ID tokens apart better, if the server can be told to send it")
	}
}

// confirmationInExt reports whether cnf is in the claim ext and not at the top level.
func (t *sample) confirmationInExt() bool {
	if t.claims["cnf"] != nil || t.claims["ext"] == nil {
		return false
	}
	var ext struct {
		Confirmation facts.Member `json:"cnf"`
	}
	return json.Unmarshal(t.claims["ext"], &ext) == nil && ext.Confirmation != nil
}

// read reads the token by the settings, as the gate would, and reports what the gate would find in the
// token.
func (p *Proposal) read(b *block, t *sample, chosen product.Product) {
	var members facts.Members
	if json.Unmarshal(t.jws.Payload, &members) != nil {
		p.missing("the token: its claims are no JSON object without duplicate names")
		return
	}
	u, err := facts.NewMapping(&b.settings).Read("", &members, t.jws.Payload)
	if err != nil {
		p.missing("the token: %v", err)
		return
	}
	if u.ClientID != "" {
		p.found("the token's client is %q: client_id of the application", access.Truncate(u.ClientID))
	}
	if len(u.Scopes) > 0 {
		p.found("the token's scopes are %q", access.Truncate(strings.Join(u.Scopes, " ")))
	}
	if u.Expires.IsZero() {
		p.missing("the token has no exp")
	} else if u.Expires.Before(time.Now()) {
		p.found("the token expired at %s; its claims are used all the same", u.Expires.UTC().Format(time.RFC3339))
	}
	p.audiences(b, u.Audience)
	p.binding(u.Confirmation, chosen)
}

// audiences sets the audiences of the block to those audiences of the token that may name this API.
func (p *Proposal) audiences(b *block, audience []string) {
	if len(audience) == 0 {
		p.missing("the token has no aud: let the server name this API as its audience (RFC 9068 section 2.2)")
		b.note("audiences", "replace by the aud that the server will send")
		return
	}
	b.settings.Audiences = slices.DeleteFunc(slices.Clone(audience), func(a string) bool { return !isURL(a) })
	if len(b.settings.Audiences) == 0 {
		b.settings.Audiences = audience
	}
	if len(audience) > 1 {
		b.note("audiences", fmt.Sprintf("the token has %d audiences; keep only the names of this API", len(audience)))
	} else {
		b.note("audiences", "the token's aud; it must be the name of this API")
	}
}

// binding reports whether the token is bound to a certificate or to a key.
func (p *Proposal) binding(c access.Confirmation, chosen product.Product) {
	none := access.Thumbprint{}
	if c.Thumbprint != none {
		p.found("the token is bound to the certificate with x5t#S256 %s", c.Thumbprint)
	}
	if c.Key != none {
		p.found("the token is bound to a DPoP key: the API needs binding: either, dpop or both (docs/dpop.md)")
	}
	switch {
	case !c.Present:
		p.missing("the token is not bound to a certificate, so the gate refuses it with not_bound; to bind it: %s", chosen.Bind)
	case c.Thumbprint == none && c.Key == none:
		p.missing("the token's cnf has other members than x5t#S256 (RFC 8705 section 3.1) and jkt (RFC 9449 section 6.1), or malformed ones; to bind it: %s", chosen.Bind)
	}
}
