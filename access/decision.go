package access

// A Decision is the verdict on one request. proxy answers, logs and counts from
// it and from nothing else. The zero Decision refuses.
type Decision struct {
	Reason    Reason
	Asserted  bool     // the upstream gets a JWT of ours about the caller
	WebSocket bool     // the caller may switch the connection to WebSocket, RFC 6455
	AnyBody   bool     // the request may have a body whatever its method
	Partner   string   // configured name; "" until the client is known
	Server    string   // configured name of the authorization server whose token it is; "" until that is known
	ClientID  string   // of the token once its server has vouched for it, also where it was refused
	API       string   // configured name; "" until a route has matched
	Route     string   // the matched route's name, its API and its path pattern; "" when none matched
	Claims    Claims   // who asked; zero unless the token passed every check
	Scopes    []string // what the route needs; set with InsufficientScope, RFC 6750 section 3.1
	Err       error    // detail for the log; never sent to the client
}
