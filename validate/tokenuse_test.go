package validate

import (
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

func profiled(p config.Profile, types ...string) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) { s.Profile, s.Types = p, types }
}

// T-JWT-11, OpenID Connect Core section 2: where typ does not tell an access token, a token whose
// claims say that it is another token is refused, although it is bound to the certificate. With a
// typ of RFC 9068 the type counts.
func TestOtherTokensWithoutAccessTokenType(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	plain := newValidator(t, localKeys(key), gatetest.AuthorizationServer(profiled(config.ProfileRFC9068, "at+jwt", "JWT", config.NoType)))
	curity := newValidator(t, localKeys(key), gatetest.AuthorizationServer(profiled(config.ProfileCurity, "at+jwt", config.NoType)))
	for _, c := range []struct {
		name   string
		v      *Validator
		claims M
		want   access.Reason
	}{
		{"an access token", plain, nil, access.Granted},
		{"nonce", plain, M{"nonce": "n-0S6_WzA2Mj"}, access.WrongType},
		{"at_hash", plain, M{"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}, access.WrongType},
		{"c_hash", plain, M{"c_hash": "LDktKdoQak3Pk0cnXxCltA"}, access.WrongType},
		{"s_hash", plain, M{"s_hash": "bOhtX8F73IMjSPeVAqxyTQ"}, access.WrongType},
		{"a logout token", plain, M{"events": M{"http://schemas.openid.net/event/backchannel-logout": M{}}}, access.WrongType},
		{"an introspection response", plain, M{"token_introspection": M{"active": true}}, access.WrongType},
		{"nonce null", plain, M{"nonce": null}, access.Granted},
		{"typ Bearer", plain, M{"typ": "Bearer"}, access.Granted},
		{"typ DPoP", plain, M{"typ": "DPoP"}, access.Granted},
		{"typ ID", plain, M{"typ": "ID"}, access.WrongType},
		{"typ Refresh", plain, M{"typ": "Refresh"}, access.WrongType},
		{"typ Logout", plain, M{"typ": "Logout"}, access.WrongType},
		{"typ number", plain, M{"typ": 1}, access.WrongType},
		{"typ null", plain, M{"typ": null}, access.Granted},
		{"token_use access", plain, M{"token_use": "access"}, access.Granted},
		{"token_use id", plain, M{"token_use": "id"}, access.WrongType},
		{"token_use array", plain, M{"token_use": []string{"access"}}, access.WrongType},
		{"purpose of another server", plain, M{"purpose": "payment"}, access.Granted},
		{"purpose access_token", curity, M{"purpose": "access_token"}, access.Granted},
		{"purpose id", curity, M{"purpose": "id"}, access.WrongType},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, c.v, key.Token(bound(c.claims), M{"typ": nil}), partner, c.want)
			expect(t, c.v, key.Token(bound(c.claims)), partner, access.Granted)
			if c.v == plain {
				expect(t, c.v, key.Token(bound(c.claims), M{"typ": "JWT"}), partner, c.want)
			}
		})
	}
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer(profiled(config.ProfileOkta, config.NoType)))
	expect(t, v, key.Token(bound(), M{"typ": nil}), partner, access.Granted)
	expect(t, v, key.Token(bound()), partner, access.WrongType)
	expect(t, v, key.Token(bound(), M{"typ": "JWT"}), partner, access.WrongType)
}

// T-INT-11, RFC 7662 section 2.2: by opt-in a response may lack aud and may have times as text. An
// aud that is there still has to be the gate's, and the binding is checked as before.
func TestLenientResponses(t *testing.T) {
	a := newAuthority(t)
	lenient := func(i *config.Introspection) { i.InsecureAudienceOptional, i.TextTimes = true, true }
	v := newValidator(t, Options{}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly, lenient)))
	strict := newValidator(t, Options{}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly)))
	for name, c := range map[string]struct {
		response     M
		want, before access.Reason
	}{
		"aud absent":        {activeResponse(M{"aud": nil}), access.Granted, access.WrongAudience},
		"aud null":          {activeResponse(M{"aud": null}), access.Granted, access.WrongAudience},
		"aud empty":         {activeResponse(M{"aud": []string{}}), access.WrongAudience, access.WrongAudience},
		"aud of another":    {activeResponse(M{"aud": "https://other.example"}), access.WrongAudience, access.WrongAudience},
		"aud number":        {activeResponse(M{"aud": 5}), access.MalformedToken, access.MalformedToken},
		"times as text":     {activeResponse(M{"exp": "1999999999", "nbf": "1700000000", "iat": "1700000000"}), access.Granted, access.MalformedToken},
		"expired, as text":  {activeResponse(M{"exp": "1700000000"}), access.Expired, access.MalformedToken},
		"not yet, as text":  {activeResponse(M{"nbf": "1999999999"}), access.NotYetValid, access.MalformedToken},
		"exp with a sign":   {activeResponse(M{"exp": "-1"}), access.MalformedToken, access.MalformedToken},
		"exp as a date":     {activeResponse(M{"exp": "2033-05-18T03:33:19Z"}), access.MalformedToken, access.MalformedToken},
		"exp with exponent": {activeResponse(M{"exp": "1e10"}), access.MalformedToken, access.MalformedToken},
		"exp empty text":    {activeResponse(M{"exp": ""}), access.MalformedToken, access.MalformedToken},
		"exp too late":      {activeResponse(M{"exp": "99999999999999999999"}), access.MalformedToken, access.MalformedToken},
		"unbound, no aud":   {activeResponse(M{"aud": nil, "cnf": null}), access.NotBound, access.WrongAudience},

		"token_type access_token":      {activeResponse(M{"token_type": "access_token"}), access.Granted, access.Granted},
		"token_type RFC 8693":          {activeResponse(M{"token_type": "urn:ietf:params:oauth:token-type:access_token"}), access.Granted, access.Granted},
		"token_type RFC 8693, refresh": {activeResponse(M{"token_type": "urn:ietf:params:oauth:token-type:refresh_token"}), access.WrongType, access.WrongType},
		"token_type number":            {activeResponse(M{"token_type": 5}), access.WrongType, access.WrongType},
		"token_type empty":             {activeResponse(M{"token_type": ""}), access.WrongType, access.WrongType},
	} {
		t.Run(name, func(t *testing.T) {
			a.knows(name, c.response)
			for range 2 {
				expect(t, v, name, partner, c.want)
				expect(t, strict, name, partner, c.before)
			}
			if c.want == access.Granted {
				expect(t, v, name, other, access.BoundToOther)
			}
		})
	}
}

// A reload that gives claims another meaning uses nothing that was cached by the earlier meaning.
func TestReloadOfClaimNames(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	a := newAuthority(t)
	azp := func(s *config.AuthorizationServer) { s.ClientClaim = []config.ClaimName{"azp"} }
	raw := key.Token(bound(M{"client_id": client, "azp": "another"}))
	a.knows("opaque", activeResponse(M{"client_id": nil, "cid": client, "azp": "another"}))
	opaqueServer := func(edits ...func(*config.AuthorizationServer)) config.AuthorizationServer {
		return gatetest.AuthorizationServer(append(edits, a.introspectedBy(config.OpaqueOnly))...)
	}
	cid := func(s *config.AuthorizationServer) { s.ClientClaim = []config.ClaimName{"cid"} }

	clientOf := func(v *Validator, raw string) string {
		t.Helper()
		claims, err := v.Validate(t.Context(), Credentials{Token: raw}, certificate(partner))
		if err != nil {
			t.Fatal(err)
		}
		return claims.ClientID
	}
	pool := new(reuse.Pool)
	options := localKeys(key)
	options.Lease = pool.Lease()
	before := newValidator(t, options, gatetest.AuthorizationServer())
	if got := clientOf(before, raw); got != client {
		t.Errorf("client = %q, want %q", got, client)
	}
	options.Lease = pool.Lease()
	if got := clientOf(newValidator(t, options, gatetest.AuthorizationServer(azp)), raw); got != "another" {
		t.Errorf("client after the reload = %q, want the azp", got)
	}

	first := newValidator(t, Options{Lease: pool.Lease()}, opaqueServer(cid))
	if got := clientOf(first, "opaque"); got != client {
		t.Errorf("client = %q, want %q", got, client)
	}
	if got := clientOf(newValidator(t, Options{Lease: pool.Lease()}, opaqueServer(azp)), "opaque"); got != "another" {
		t.Errorf("client after the reload = %q, want the azp", got)
	}
}

// RFC 8705 section 3.2 has cnf at the top level of a response. Where a server is configured to have it
// under ext, as Ory Hydra does, it binds the token as well, and cannot replace a cnf beside it.
func TestResponsesWithExtConfirmation(t *testing.T) {
	a := newAuthority(t)
	hydra := newValidator(t, Options{}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly), func(s *config.AuthorizationServer) {
		s.Profile, s.ScopeClaim, s.ConfirmationClaim = config.ProfileHydra, "scp", config.ExtCNF
	}))
	plain := newValidator(t, Options{}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly)))
	ext := func(p *testpki.Pair) M { return M{"cnf": M{"x5t#S256": p.Thumbprint()}} }
	for name, c := range map[string]struct {
		response    M
		want, plain access.Reason
	}{
		"under ext":           {activeResponse(M{"cnf": nil, "ext": ext(partner)}), access.Granted, access.NotBound},
		"in both, equal":      {activeResponse(M{"ext": ext(partner)}), access.Granted, access.Granted},
		"in both, different":  {activeResponse(M{"ext": ext(other)}), access.MalformedBinding, access.Granted},
		"of another":          {activeResponse(M{"cnf": nil, "ext": ext(other)}), access.BoundToOther, access.NotBound},
		"null under ext":      {activeResponse(M{"cnf": nil, "ext": M{"cnf": null}}), access.NotBound, access.NotBound},
		"ext null":            {activeResponse(M{"cnf": nil, "ext": null}), access.NotBound, access.NotBound},
		"malformed under ext": {activeResponse(M{"cnf": nil, "ext": M{"cnf": "x"}}), access.MalformedBinding, access.NotBound},
	} {
		t.Run(name, func(t *testing.T) {
			a.knows(name, c.response)
			for range 2 {
				expect(t, hydra, name, partner, c.want)
				expect(t, plain, name, partner, c.plain)
			}
			if c.want == access.Granted {
				expect(t, hydra, name, other, access.BoundToOther)
			}
		})
	}
}
