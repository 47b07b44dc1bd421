package authorize

import (
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/policy"
)

// decidePreflight returns the grant for a preflight if its route answers preflights. Otherwise it
// returns false, and the request needs a certificate and a token like any other request.
func (c *Checked) decidePreflight(target policy.Target) (access.Decision, bool) {
	if c.Upgrade || !isPreflight(c.Request) || c.Checks.Trust.CheckSender(c.Request) != nil {
		return access.Decision{}, false
	}
	return c.Checks.Table.Preflight(target)
}

// isPreflight reports whether r has the form of a browser's CORS preflight (Fetch standard, "CORS
// protocol"): OPTIONS with one Origin and one Access-Control-Request-Method, without a body and
// without credentials.
func isPreflight(r *http.Request) bool {
	origin := single(r.Header["Origin"])
	return r.Method == http.MethodOptions && !HasBody(r) && len(r.TransferEncoding) == 0 &&
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
