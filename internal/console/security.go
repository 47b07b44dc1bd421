package console

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// policy lets a page load style, script and images of the console, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// guard passes on the requests of an operator's browser or command line, and sets the headers of every
// answer. It stops what web pages of other sites could do in that browser: DNS rebinding by the Host, and
// requests from another origin by Sec-Fetch-Site and Origin.
func guard(port func() string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !isOwnHost(r.Host, port()):
			http.Error(w, "The console is served only under a loopback name or address with its own port, such as http://127.0.0.1:"+port()+
				". A tunnel to it must use the same port on both sides: kubectl port-forward POD "+port()+":"+port()+".", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "The console is read-only: it accepts only GET and HEAD.", http.StatusMethodNotAllowed)
		case isForeign(r):
			http.Error(w, "The console refuses requests that a page of another site sends. Type the address of the console.", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isOwnHost reports whether the value of a Host field is a loopback name or address with port. Port 80 may
// be left out, because browsers do.
func isOwnHost(host, port string) bool {
	name, got, err := net.SplitHostPort(host)
	if err != nil {
		name, got = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), "80"
	}
	if got != port {
		return false
	}
	address, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && address.Unmap().IsLoopback()
}

// isForeign reports whether a page of another origin sends r. A request without the headers of a browser
// comes from a command line.
func isForeign(r *http.Request) bool {
	if site := r.Header.Values("Sec-Fetch-Site"); len(site) > 0 && (len(site) > 1 || site[0] != "same-origin" && site[0] != "none") {
		return true
	}
	origin := r.Header.Values("Origin")
	return len(origin) > 1 || len(origin) == 1 && origin[0] != "http://"+r.Host
}
