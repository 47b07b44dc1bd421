package policy

import (
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// A Target is what a request asks for, in the one form that counts: nothing in it
// was repaired. The zero Target is served by nobody.
type Target struct {
	Host string // lower case, without port; an IPv6 literal without brackets
	Path string // as received, percent escapes and all: the bytes matched are the bytes forwarded
}

// Why a request has no target. None quotes the request.
var (
	errForm        = errors.New("the request target is neither origin-form nor absolute-form with https")
	errAuthority   = errors.New("the request target, the :authority and the Host header name different hosts")
	errHost        = errors.New("the host is no host name or IP literal")
	errQuery       = errors.New("the query has bytes that must be percent-encoded, or a broken escape")
	errEmptyPath   = errors.New("an empty path or segment is not canonical")
	errOtherReader = errors.New("net/url reads the path or the query differently")
)

// ParseTarget returns the target of r, a request as net/http's server hands it
// over, HTTP/1.1 or HTTP/2. Every error is an [access.Denial]: MalformedRequest for
// CONNECT, asterisk-form and authority-form (RFC 9112 section 3.2), a scheme other
// than https, a host that is none, and a query with stray bytes; PathNotCanonical
// for a path that is empty or has a segment that [urlpath.DecodeSegment] refuses, or
// an empty one before the last. The query is not looked at further.
func ParseTarget(r *http.Request) (Target, error) {
	raw, err := originForm(r)
	if err != nil {
		return Target{}, malformed(err)
	}
	host, err := parseHost(r.Host)
	if err != nil {
		return Target{}, malformed(err)
	}
	path, query, _ := strings.Cut(raw, "?")
	if !isQuery(query) {
		return Target{}, malformed(errQuery)
	}
	for _, err := range segments(path) {
		if err != nil {
			return Target{}, &access.Denial{Reason: access.PathNotCanonical, Err: err}
		}
	}
	// Whoever forwards r.URL instead of the raw bytes must send the same.
	if r.URL.EscapedPath() != path || r.URL.RawQuery != query {
		return Target{}, &access.Denial{Reason: access.PathNotCanonical, Err: errOtherReader}
	}
	return Target{Host: host, Path: path}, nil
}

// originForm returns the path and query of r's target as received.
func originForm(r *http.Request) (string, error) {
	if r.Method == http.MethodConnect {
		return "", errForm
	}
	// HTTP/2 may carry a Host header beside :authority (RFC 9113 section 8.3.1);
	// for HTTP/1.1, net/http has taken the header away.
	if hosts := r.Header["Host"]; len(hosts) > 1 || len(hosts) == 1 && hosts[0] != r.Host {
		return "", errAuthority
	}
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI, nil
	}
	// Absolute-form, RFC 9112 section 3.2.2: its authority replaces the Host header.
	scheme, rest, _ := strings.Cut(r.RequestURI, "://")
	if strings.ToLower(scheme) != "https" {
		return "", errForm
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if rest[:end] != r.Host {
		return "", errAuthority
	}
	return rest[end:], nil
}

// segments yields the decoded segments of path in order, and in place of the first
// that is not canonical an error. It is how a path is read both here and by the
// routes, so a Target made by hand is judged no more kindly.
func segments(path string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		rest, more := strings.CutPrefix(path, "/")
		if !more {
			yield("", errEmptyPath)
		}
		for more {
			var raw string
			raw, rest, more = strings.Cut(rest, "/")
			if raw == "" && more {
				yield("", errEmptyPath)
				return
			}
			segment, err := urlpath.DecodeSegment(raw)
			if !yield(segment, err) || err != nil {
				return
			}
		}
	}
}

// isQuery reports whether every byte of query may stand in a request line and every
// escape is whole. Clients send more than RFC 3986 section 3.4 allows, such as
// brackets; that passes.
func isQuery(query string) bool {
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	_, err := url.PathUnescape(query) // "+" is no escape there, and none is needed
	return err == nil
}

// parseHost returns the host of an authority in lower case, without its port, which
// says how the connection was reached and not who is meant. A trailing dot is
// refused: one host has one spelling.
func parseHost(authority string) (string, error) {
	host := authority
	if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
		if _, err := strconv.ParseUint(authority[colon+1:], 10, 16); err != nil {
			return "", errHost
		}
		host = authority[:colon]
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		address, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || !address.Is6() || address.Zone() != "" {
			return "", errHost
		}
		return address.String(), nil
	}
	if !isHostName(host) {
		return "", errHost
	}
	return strings.ToLower(host), nil
}

// isHostName reports whether host is dot-separated labels of letters, digits,
// hyphens and underscores, none empty, 253 bytes at most (RFC 1035 section 2.3.4,
// less the two that the wire format adds).
func isHostName(host string) bool {
	label := 0
	for _, c := range []byte(host) {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return false
		}
	}
	return label > 0 && len(host) <= 253
}

func malformed(err error) error {
	return &access.Denial{Reason: access.MalformedRequest, Err: err}
}
