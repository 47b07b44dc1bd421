package gate

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/config"
)

const misdirectedAdmin = "The admin listener is not served under this host name. " +
	"Use its address, or add the name to admin.hosts in the gate's configuration.\n"

// checkAdminHost answers 421 (RFC 9110 section 15.5.20) to a request whose Host is not a name of the
// admin listener, and passes all other requests to next. This stops DNS rebinding: a web page whose own
// name resolves to the gate's address could read the metrics, which name partners, through the browser
// of a user who can reach the listener.
func (g *Gate) checkAdminHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isAdminHost(r.Host, g.current.Load().cfg.Admin.Hosts) {
			http.Error(w, strings.TrimSuffix(misdirectedAdmin, "\n"), http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isAdminHost reports whether host, the value of a Host field, is a name of the admin listener. IP
// addresses (which probes use), names of one label, and names of services inside a Kubernetes cluster
// are accepted without configuration, because they cannot be registered in the public DNS. An empty
// host is accepted too, because only HTTP/1.0 requests have none, and browsers do not send HTTP/1.0.
func isAdminHost(host string, configured []config.Host) bool {
	if host == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".cluster.local") ||
		slices.Contains(configured, config.Host(host))
}
