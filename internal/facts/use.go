package facts

// The values by which servers mark an access token, in lower case, in claims of JWTs and in members
// of introspection responses alike.
var (
	AccessUses  = []string{"access_token", "access"}                                // token_use
	AccessTypes = []string{"bearer", "dpop", "at+jwt", "application/at+jwt", "jwt"} // typ
)
