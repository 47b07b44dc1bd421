package validate

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// within is IntrospectedWithin in these tests, half of the time for which responses are cached.
const within = 30 * time.Second

// A revocations is a source of revocations whose status a test sets.
type revocations struct {
	status RevocationStatus
	err    error
	ahead  time.Duration // how far the gate's clock is ahead
}

func (r *revocations) options() Options {
	return Options{
		Revoked:            func(*access.Unchecked) (RevocationStatus, error) { return r.status, r.err },
		IntrospectedWithin: within,
		Now:                func() time.Time { return time.Now().Add(r.ahead) },
	}
}

// step expects the result and the number of introspected tokens of one request.
func (r *revocations) step(t *testing.T, v *Validator, a *authorizationServer, token string, want access.Reason, asked int) {
	t.Helper()
	expect(t, v, token, partner, want)
	if got := len(a.calls()); got != asked {
		t.Errorf("%d introspected tokens with status %d at %s, want %d", got, r.status, r.ahead, asked)
	}
}

// While revocations are unknown, a JWT is introspected for the request, and no response is used that is
// older than IntrospectedWithin.
func TestIntrospectWhileUnknown(t *testing.T) {
	key, a := testpki.NewSigner("ES256", "k1"), newAuthority(t)
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(key))
	r := revocations{status: NotRevoked}
	late := func(i *config.Introspection) { i.Cache.StaleOnError = time.Hour }
	v := newValidator(t, r.options(), gatetest.AuthorizationServer(fromFile, a.introspectedBy(config.JWTOnly, late)))
	token := key.Token(bound(M{"jti": "7"}))
	a.knows(token, activeResponse(M{"jti": "7"}))
	r.step(t, v, a, token, access.Granted, 0)
	r.status, r.err = Introspect, errors.New("the issuer is away")
	r.step(t, v, a, token, access.Granted, 1)
	r.step(t, v, a, token, access.Granted, 0) // as of a moment ago
	r.ahead = within + time.Second
	r.step(t, v, a, token, access.Granted, 1)
	r.ahead += within + time.Second
	a.fail(true)
	r.step(t, v, a, token, access.IssuerUnavailable, 1) // stale_on_error has a response that is too old
	a.fail(false)
	a.knows(token, nil)
	r.step(t, v, a, token, access.Inactive, 1)
	r.status, r.err = Revoked, nil
	r.step(t, v, a, token, access.Revoked, 0)
	expect(t, v, key.Token(bound()), other, access.Revoked)
	r.status = Introspect
	expect(t, v, key.Token(bound()), other, access.BoundToOther)
	if asked := a.calls(); len(asked) != 0 {
		t.Errorf("the server was asked about tokens that were refused anyway: %d", len(asked))
	}
}

// The response to an introspection because of unknown revocations restricts the token like the response of
// also_introspect.
func TestIntrospectWhileUnknownRestricts(t *testing.T) {
	key, a := testpki.NewSigner("ES256", "k1"), newAuthority(t)
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(key))
	options := Options{IntrospectedWithin: within, Revoked: func(u *access.Unchecked) (RevocationStatus, error) {
		if u.ClientID == "revoked" {
			return Revoked, nil
		}
		return Introspect, nil
	}}
	v := newValidator(t, options, gatetest.AuthorizationServer(fromFile, a.introspectedBy(config.JWTOnly)))
	for name, c := range map[string]struct {
		token, response M
		want            access.Reason
	}{
		"another cnf there":      {nil, M{"cnf": M{"x5t#S256": other.Thumbprint()}}, access.BoundToOther},
		"another client there":   {nil, M{"client_id": "evil"}, access.MalformedToken},
		"a client revoked there": {M{"client_id": nil}, M{"client_id": "revoked"}, access.Revoked},
		"expired there":          {nil, M{"exp": time.Now().Add(-time.Minute).Unix()}, access.Expired},
		"active":                 {nil, nil, access.Granted},
	} {
		token := key.Token(bound(c.token, M{"jti": name}))
		a.knows(token, activeResponse(c.response, M{"jti": name}))
		t.Run(name, func(t *testing.T) { expect(t, v, token, partner, c.want) })
	}
	token := key.Token(bound(M{"scope": "a b", "jti": "7"}))
	a.knows(token, activeResponse(M{"scope": "b", "jti": "7"}))
	claims, err := v.Validate(t.Context(), Credentials{Token: token}, certificate(partner))
	if err != nil || !slices.Equal(claims.Scopes, []string{"b"}) {
		t.Errorf("Validate = scopes %v, %v; want only the scope of the response", claims.Scopes, err)
	}
}

// While revocations are unknown, a cached response about an opaque token is used only if it is recent.
func TestOpaqueWhileUnknown(t *testing.T) {
	for name, maxAge := range map[string]time.Duration{"cached": time.Minute, "not cached": 0} {
		t.Run(name, func(t *testing.T) {
			a, again := newAuthority(t), 0
			if maxAge == 0 {
				again = 1
			}
			r := revocations{status: NotRevoked}
			v := newValidator(t, r.options(), gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly, func(i *config.Introspection) {
				i.Cache.MaxAge, i.Cache.StaleOnError = maxAge, time.Hour
			})))
			a.knows("opaque", activeResponse())
			r.step(t, v, a, "opaque", access.Granted, 1)
			r.status, r.ahead = Introspect, within+time.Second
			r.step(t, v, a, "opaque", access.Granted, 1)
			r.step(t, v, a, "opaque", access.Granted, again)
			a.knows("opaque", activeResponse(M{"aud": "https://moved.example"}))
			r.ahead += within + time.Second
			r.step(t, v, a, "opaque", access.WrongAudience, 1)
			a.fail(true)
			r.step(t, v, a, "opaque", access.IssuerUnavailable, 1)
			a.fail(false)
			a.knows("opaque", nil)
			r.step(t, v, a, "opaque", access.Inactive, 1)
		})
	}
}

// A token whose revocation is unknown is refused unless its server can be asked. The error is detail for the log.
func TestUnknownStatusRefuses(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	for name, c := range map[string]struct {
		status RevocationStatus
		err    error
		want   access.Reason
	}{
		"zero":                          {0, nil, access.RevocationsStale},
		"no server to ask":              {Introspect, nil, access.RevocationsStale},
		"not revoked, but perhaps":      {NotRevoked, errors.New("perhaps"), access.RevocationsStale},
		"an unknown status":             {Introspect + 1, nil, access.RevocationsStale},
		"revoked":                       {Revoked, nil, access.Revoked},
		"revoked, and others may be so": {Revoked, errors.New("perhaps"), access.Revoked},
		"not revoked":                   {NotRevoked, nil, access.Granted},
	} {
		options := localKeys(key)
		options.Revoked = func(*access.Unchecked) (RevocationStatus, error) { return c.status, c.err }
		v := newValidator(t, options, gatetest.AuthorizationServer())
		t.Run(name, func(t *testing.T) { expect(t, v, key.Token(bound()), partner, c.want) })
		if c.err == nil || c.want == access.Revoked {
			continue
		}
		if _, err := v.Validate(t.Context(), Credentials{Token: key.Token(bound())}, certificate(partner)); !errors.Is(err, c.err) {
			t.Errorf("%s: Validate = %v, want an error that wraps %v", name, err, c.err)
		}
	}
}

// Refusals, for explanations, introspects as Validate does.
func TestRefusalsWhileUnknown(t *testing.T) {
	key, a := testpki.NewSigner("ES256", "k1"), newAuthority(t)
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(key))
	r := revocations{status: Introspect}
	v := newValidator(t, r.options(), gatetest.AuthorizationServer(fromFile, a.introspectedBy(config.JWTOnly)))
	token := key.Token(bound(M{"jti": "7"}))
	refused, _ := v.Refusals(t.Context(), Credentials{Token: token}, certificate(partner))
	if len(refused) != 1 || access.ReasonOf(refused[0]) != access.Inactive {
		t.Errorf("Refusals = %v, want inactive", refused)
	}
}
