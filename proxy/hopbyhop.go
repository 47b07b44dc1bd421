package proxy

import (
	"net/http"
	"strings"
)

// hopByHopHeaders are the headers that concern one connection (RFC 9110 section 7.6.1), and
// Content-Length and Expect, which say where a message ends and when its body begins. net/http has
// processed headers with exactly these names. An upstream may read a name that has another character
// in place of a hyphen as the same header, so a client may send these headers only in their exact
// spelling. The names are folded.
var hopByHopHeaders = []string{
	"connection", "content-length", "expect", "http2-settings", "keep-alive",
	"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// removeHopByHop removes the hop-by-hop headers from h, and the headers that Connection names.
// ReverseProxy removes them from requests and final responses only.
func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(option))
		}
	}
	for _, name := range hopByHopHeaders {
		h.Del(name)
	}
}

// hasToken reports whether lines, the lines of a header with a comma-separated list, contain token.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), token) {
				return true
			}
		}
	}
	return false
}
