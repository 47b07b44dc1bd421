package explain

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/product"
)

// A presented holds the header and the claims of the JWT in the request. Header and claims are not
// verified, and only the text of the explanation uses them.
type presented struct {
	header, claims map[string]jsontext.Value
}

// token returns the header and claims of the JWT in the request. ok is false if the request has no
// token, or a token that is not a JWT.
func (x *explainer) token() (p presented, ok bool) {
	_, raw, _ := strings.Cut(x.request.Header.Get("Authorization"), " ")
	segments := strings.Split(raw, ".")
	if len(segments) != 3 {
		return p, false
	}
	for i, into := range []*map[string]jsontext.Value{&p.header, &p.claims} {
		document, err := base64.RawURLEncoding.DecodeString(segments[i])
		if err != nil || json.Unmarshal(document, into) != nil {
			return p, false
		}
	}
	return p, true
}

// settings returns the settings of the authorization server whose issuer is the iss claim of p, or nil.
func (x *explainer) settings(p presented) *config.AuthorizationServer {
	for i := range x.cfg.AuthorizationServers {
		s := &x.cfg.AuthorizationServers[i]
		if text, _ := textOf(p.claims["iss"]); text == string(s.Issuer) {
			return s
		}
	}
	return nil
}

// hint names claims that the token has in place of a configured claim, and the settings that make the
// gate read these claims. It returns "" if there is nothing to propose.
func (x *explainer) hint() string {
	p, ok := x.token()
	if !ok {
		return ""
	}
	s := x.settings(p)
	if s == nil {
		return ""
	}
	for _, h := range hints {
		if h.reason == x.decision.Reason {
			return h.say(x, p, s)
		}
	}
	return ""
}

// hints has a function for each reason whose cause may be a setting that does not fit the token.
var hints = []struct {
	reason access.Reason
	say    func(*explainer, presented, *config.AuthorizationServer) string
}{
	{access.UnknownClient, func(x *explainer, p presented, s *config.AuthorizationServer) string {
		if x.decision.ClientID != "" {
			return ""
		}
		return p.instead(s.ClientClaim, []config.ClaimName{"client_id", "azp", "appid", "cid"}, "client_claim", true)
	}},
	{access.InsufficientScope, func(x *explainer, p presented, s *config.AuthorizationServer) string {
		if len(x.decision.Claims.Scopes) > 0 {
			return ""
		}
		return p.scopes(s)
	}},
	{access.WrongAudience, func(_ *explainer, p presented, s *config.AuthorizationServer) string { return p.audienceHint(s) }},
	{access.WrongType, func(_ *explainer, p presented, s *config.AuthorizationServer) string { return p.typeHint(s) }},
	{access.UnsupportedAlgorithm, func(_ *explainer, p presented, _ *config.AuthorizationServer) string { return p.algorithmHint() }},
	{access.NotBound, func(_ *explainer, p presented, _ *config.AuthorizationServer) string { return p.bindingHint() }},
}

// instead proposes a setting if the token has none of the configured claims: the value is the first
// claim of candidates that the token has. list says that the value of the setting is a list.
func (p presented) instead(configured, candidates []config.ClaimName, setting string, list bool) string {
	if slices.ContainsFunc(configured, p.has) {
		return ""
	}
	for _, claim := range candidates {
		if slices.Contains(configured, claim) || !p.has(claim) {
			continue
		}
		value := string(claim)
		if list {
			value = "[" + value + "]"
		}
		return fmt.Sprintf("no %s; %s=%s: set %s: %s%s", joined(configured), claim, p.quoted(claim), setting, value, p.orProfile())
	}
	return ""
}

// scopes proposes a setting for a token whose scopes are in another claim than the configured claim.
func (p presented) scopes(s *config.AuthorizationServer) string {
	if s.ScopePrefix != "" && p.has(s.ScopeClaim) {
		return fmt.Sprintf("%s=%s: no scope begins with scope_prefix %q", s.ScopeClaim, p.quoted(s.ScopeClaim), s.ScopePrefix)
	}
	if found := p.instead([]config.ClaimName{s.ScopeClaim}, []config.ClaimName{"scope", "scp"}, "scope_claim", false); found != "" {
		return found
	}
	for _, claim := range []config.ClaimName{"roles", "permissions"} {
		if s.RolesAsScopes == "" && !p.has(s.ScopeClaim) && p.has(claim) {
			return fmt.Sprintf("no %s; %s=%s: set roles_as_scopes: %[2]s%[4]s", s.ScopeClaim, claim, p.quoted(claim), p.orProfile())
		}
	}
	return ""
}

// audienceHint proposes another claim for the audience only for tokens of Cognito. With other servers,
// such a setting would make the gate accept tokens that are meant for any other API.
func (p presented) audienceHint(s *config.AuthorizationServer) string {
	switch {
	case slices.ContainsFunc(s.AudienceClaim, p.has):
		return ""
	case p.profile() == config.ProfileCognito:
		return fmt.Sprintf("no %s; client_id=%s: set profile: cognito, and the client in audiences", joined(s.AudienceClaim), p.quoted("client_id"))
	}
	return "no " + joined(s.AudienceClaim) + ": let the server name the API in aud (RFC 9068 section 3)"
}

func (p presented) typeHint(s *config.AuthorizationServer) string {
	typ, named := p.header["typ"]
	text, isText := textOf(typ)
	switch {
	case !named && !slices.Contains(s.Types, config.NoType):
		return "no typ: set types: [" + config.NoType + "]" + p.orProfile()
	case isText && strings.EqualFold(text, "JWT") && !slices.Contains(s.Types, "JWT"):
		return "typ=" + p.quotedValue(typ) + ": set types: [JWT]" + p.orProfile()
	}
	return ""
}

func (p presented) algorithmHint() string {
	text, _ := textOf(p.header["alg"])
	var known config.Algorithm
	if known.UnmarshalText([]byte(text)) != nil {
		return ""
	}
	return fmt.Sprintf("alg=%q: add it to algorithms%s", text, p.orProfile())
}

func (p presented) bindingHint() string {
	var ext struct {
		Confirmation jsontext.Value `json:"cnf"`
	}
	if p.has("ext") && json.Unmarshal(p.claims["ext"], &ext) == nil && ext.Confirmation != nil {
		return "no cnf; ext has a cnf: set confirmation_claim: ext.cnf or profile: hydra"
	}
	return "no cnf: the server does not bind the token; let it bind access tokens of the client to its certificate (RFC 8705 section 3)"
}

// orProfile returns the end of a hint: the profile that fits the token, or "" if no profile fits.
func (p presented) orProfile() string {
	if profile := p.profile(); profile != "" {
		return " or profile: " + string(profile)
	}
	return ""
}

// profile guesses the profile of the product that issued the token, "" if the product is not known.
func (p presented) profile() config.Profile {
	claims := make(product.Claims)
	for _, name := range product.Names {
		if p.has(config.ClaimName(name)) {
			claims[name], _ = textOf(p.claims[name])
		}
	}
	if manager, ok := textOf(p.header[product.PingATM]); ok {
		claims[product.PingATM] = manager
	}
	issuer, _ := textOf(p.claims["iss"])
	return product.Guess(issuer, claims).Profile
}

// has reports whether the token has the claim with a value other than null.
func (p presented) has(claim config.ClaimName) bool {
	v, ok := p.claims[string(claim)]
	return ok && v.Kind() != jsontext.KindNull
}

func (p presented) quoted(claim config.ClaimName) string {
	return p.quotedValue(p.claims[string(claim)])
}

func (p presented) quotedValue(v jsontext.Value) string { return access.Truncate(string(v)) }

func textOf(v jsontext.Value) (string, bool) {
	var text string
	if v.Kind() != jsontext.KindString || json.Unmarshal(v, &text) != nil {
		return "", false
	}
	return text, true
}

// joined returns claims as in "a or b".
func joined(claims []config.ClaimName) string {
	texts := make([]string, len(claims))
	for i, c := range claims {
		texts[i] = string(c)
	}
	return strings.Join(texts, " or ")
}
