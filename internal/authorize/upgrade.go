package authorize

import (
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
)

// AsksForUpgrade reports whether r asks to switch its connection to another protocol. After a switch,
// later messages on the connection would bypass the checks of requests (RFC 9110 section 7.8).
func AsksForUpgrade(r *http.Request) bool {
	return r.Header["Upgrade"] != nil || r.Header["Http2-Settings"] != nil || http1.ListsHaveToken(r.Header["Connection"], "upgrade")
}

// asksForWebSocket reports whether r, which asks for an upgrade, is a WebSocket handshake (RFC 6455
// section 4.1). No route can allow any other protocol; in particular no route allows h2c.
func asksForWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.ContentLength == 0 &&
		r.Header["Http2-Settings"] == nil && len(r.Header["Upgrade"]) == 1 && isWebSocket(r.Header["Upgrade"][0]) &&
		http1.ListsHaveToken(r.Header["Connection"], "upgrade")
}

// isWebSocket reports whether protocol, the value of Upgrade, names WebSocket and nothing else.
func isWebSocket(protocol string) bool { return strings.EqualFold(protocol, string(config.WebSocket)) }
