package facts

// The values by which servers mark a token as an access token, in lower case. Claims of JWTs and
// members of introspection responses use the same values.
var (
	AccessUses  = []string{"access_token", "access"}                                // values of the claim token_use
	AccessTypes = []string{"bearer", "dpop", "at+jwt", "application/at+jwt", "jwt"} // values of typ
)
