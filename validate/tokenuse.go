package validate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/facts"
)

// otherUses are the claims that only other tokens have: ID tokens (OpenID Connect Core sections 2
// and 3.3.2.11, FAPI 1.0 part 2 section 5.1.1), security event and logout tokens (RFC 8417 section
// 2.2), and signed introspection responses (RFC 9701 section 5).
var otherUses = []string{"nonce", "at_hash", "c_hash", "s_hash", "events", "token_introspection"}

// useMarks are the claims in which servers say what a token is for. Each has the values that mean an
// access token, in lower case.
var useMarks = []struct {
	claim    string
	profiles []config.Profile // nil means every profile
	access   []string
}{
	{"token_use", nil, facts.AccessUses},                                          // Cognito has the values access and id
	{"typ", nil, facts.AccessTypes},                                               // Keycloak has the values Bearer, DPoP, ID, Refresh and Logout
	{"purpose", []config.Profile{config.ProfileCurity}, []string{"access_token"}}, // Curity has the values access_token and id
}

// checkUse returns an [access.Denial] if the claims of t say that t is not an access token. A typ of
// RFC 9068 alone says that t is an access token, but ID tokens too have the typ JWT or no typ.
func (s *server) checkUse(t *jwt) error {
	if t.IsAccessTokenType() {
		return nil
	}
	names := slices.Clone(otherUses)
	for _, mark := range useMarks {
		names = append(names, mark.claim)
	}
	found, err := facts.Select(t.Payload, names...)
	if err != nil {
		return access.Denyf(access.MalformedToken, "reading claims: %w", err)
	}
	for _, claim := range otherUses {
		if found[claim] != nil {
			return &access.Denial{Reason: access.WrongType, Err: fmt.Errorf("the token has the claim %s, which no access token has", claim)}
		}
	}
	for _, mark := range useMarks {
		value := found[mark.claim]
		if value == nil || mark.profiles != nil && !slices.Contains(mark.profiles, s.settings.Profile) {
			continue
		}
		if text, ok := value.Text(); !ok || !slices.Contains(mark.access, strings.ToLower(text)) {
			return &access.Denial{Reason: access.WrongType, Err: &access.Mismatch{
				Name: mark.claim, Want: strings.Join(mark.access, " or "), Got: access.Truncate(string(value)),
			}}
		}
	}
	return nil
}
