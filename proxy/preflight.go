package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/upstream"
)

// preflightRequest are the headers of a preflight that the gate forwards. The gate forwards no other
// headers, so that a client without a certificate cannot send the API a header that the API obeys.
var preflightRequest = []string{
	"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers", "Access-Control-Request-Private-Network", "User-Agent",
}

// makePreflight makes x.out the preflight for the upstream. The preflight has neither query nor body. Its
// headers are preflightRequest, the request id, and the client's address and host.
func (x *exchange) makePreflight() {
	out := &x.out
	out.Target, _, _ = strings.Cut(out.Target, "?")
	for _, name := range preflightRequest {
		for _, value := range x.Request.Header[name] {
			out.Fields = append(out.Fields, http1.Field{Name: name, Value: value})
		}
	}
	out.Fields = x.appendTraceContext(appendRequestHeaders(out.Fields, &x.checkedRequest))
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
