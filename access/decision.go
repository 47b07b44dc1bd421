package access

// A Decision is the verdict on one request. Package proxy answers, logs and counts from the
// Decision alone. The zero Decision refuses.
type Decision struct {
	Reason    Reason
	Asserted  bool     // the upstream gets an assertion (a JWT) about the client
	WebSocket bool     // the client may switch the connection to WebSocket, RFC 6455
	AnyBody   bool     // the request may have a body with any method
	Partner   string   // configured name; "" until the client is known
	Server    string   // configured name of the token's authorization server; "" until it is known
	ClientID  string   // client_id of the token, also of a refused token; "" until the token's origin is verified
	API       string   // configured name; "" until a route has matched
	Route     string   // name of the matched route: API and path pattern; "" without a match
	Claims    Claims   // zero unless the token passed every check
	Scopes    []string // scopes that the route needs; set with InsufficientScope, RFC 6750 section 3.1
	Err       error    // detail for the log; never in the answer
}
