package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/upstream"
	"github.com/tallygate/tallygate/policy"
)

// preflightRequest are the headers of a preflight that the gate forwards. The gate forwards no other
// headers, so that a client without a certificate cannot send the API a header that the API obeys.
var preflightRequest = []string{
	"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers", "Access-Control-Request-Private-Network", "User-Agent",
}

// decidePreflight returns the grant for a preflight if its route answers preflights. Otherwise it
// returns false, and the request needs a certificate and a token like any other request.
func (p *Proxy) decidePreflight(c *checkedRequest, target policy.Target) (access.Decision, bool) {
	if c.upgrade || !isPreflight(c.request) || p.steps.Trust.CheckSender(c.request) != nil {
		return access.Decision{}, false
	}
	return p.steps.Table.Preflight(target)
}

// isPreflight reports whether r has the form of a browser's CORS preflight (Fetch standard, "CORS
// protocol"): OPTIONS with one Origin and one Access-Control-Request-Method, without a body and
// without credentials.
func isPreflight(r *http.Request) bool {
	origin := single(r.Header["Origin"])
	return r.Method == http.MethodOptions && !hasBody(r) && len(r.TransferEncoding) == 0 &&
		(origin == "null" || strings.Contains(origin, "://")) && single(r.Header["Access-Control-Request-Method"]) != "" &&
		r.Header["Authorization"] == nil && r.Header["Dpop"] == nil && r.Header["Cookie"] == nil
}

// single returns the value of a header that has exactly one line and one list member, and "" for any
// other header.
func single(lines []string) string {
	if len(lines) != 1 || strings.ContainsAny(lines[0], ", \t") {
		return ""
	}
	return lines[0]
}

// makePreflight makes x.out the preflight for the upstream. The preflight has neither query nor body. Its
// headers are preflightRequest, the request id, and the client's address and host.
func (x *exchange) makePreflight() {
	out := &x.out
	out.Target, _, _ = strings.Cut(out.Target, "?")
	for _, name := range preflightRequest {
		for _, value := range x.request.Header[name] {
			out.Fields = append(out.Fields, http1.Field{Name: name, Value: value})
		}
	}
	out.Fields = appendRequestHeaders(out.Fields, &x.checkedRequest)
}

// filterPreflight removes everything that a browser does not need from the response to a preflight.
// If an API handles OPTIONS like GET, a client without a certificate must not learn what GET returns.
func filterPreflight(answer *upstream.Response) {
	const prefix = "Access-Control-"
	answer.Fields = slices.DeleteFunc(answer.Fields, func(f http1.Field) bool {
		return !strings.EqualFold(f.Name, "Vary") && (len(f.Name) < len(prefix) || !strings.EqualFold(f.Name[:len(prefix)], prefix))
	})
	_ = answer.Body.Close()
	answer.Body, answer.Length, answer.Announced = http.NoBody, 0, http1.UntilClose
}
