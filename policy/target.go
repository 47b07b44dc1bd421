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

// A Target is the host and path of a request in canonical form. ParseTarget refuses other forms and
// repairs nothing. No Table serves the zero Target.
type Target struct {
	Host string // lower case, without port; an IPv6 literal without brackets
	Path string // as received, with percent-encoding: the gate matches and forwards the same bytes
}

// Details for the log: why a request has no Target. The texts quote nothing of the request.
var (
	errForm        = errors.New("the request target is neither origin-form nor absolute-form with https")
	errAuthority   = errors.New("the request target, the :authority and the Host header name different hosts")
	errHost        = errors.New("the host is neither a host name nor an IP literal")
	errQuery       = errors.New("the query has bytes that must be percent-encoded, or a broken escape")
	errEmptyPath   = errors.New("the path or a segment before the last is empty")
	errOtherReader = errors.New("net/url reads the path or the query differently")
)

// ParseTarget returns the Target of r, an HTTP/1.1 or HTTP/2 request as a server receives it. Every
// error is an [access.Denial]: MalformedRequest for CONNECT, asterisk-form and authority-form (RFC 9112
// section 3.2), a scheme other than https, an invalid host, and a query with bytes that must be
// encoded; PathNotCanonical for an empty path, an empty segment before the last, and a segment that
// [urlpath.DecodeSegment] refuses, unless an API on the host allows its spelling.
func (t *Table) ParseTarget(r *http.Request) (Target, error) {
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
	for _, err := range segments(path, t.spellings(host)) {
		if err != nil {
			return Target{}, &access.Denial{Reason: access.PathNotCanonical, Err: err}
		}
	}
	// r.URL must have the same spelling as the raw bytes, so that code that forwards r.URL sends the path and
	// query that are checked here.
	if r.URL.EscapedPath() != path || r.URL.RawQuery != query {
		return Target{}, &access.Denial{Reason: access.PathNotCanonical, Err: errOtherReader}
	}
	return Target{Host: host, Path: path}, nil
}

// originForm returns the path and query of the request target as received.
func originForm(r *http.Request) (string, error) {
	if r.Method == http.MethodConnect {
		return "", errForm
	}
	// An HTTP/2 request may have a Host header beside :authority (RFC 9113 section 8.3.1). net/http
	// removes the Host header of HTTP/1.1 requests.
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

// segments yields the decoded segments of path in order. At the first segment that is not canonical
// it yields an error and ends. Both ParseTarget and the look-up of routes use segments, so a Target
// that ParseTarget did not make passes no weaker check. allowed has the spellings that are accepted
// in addition to the canonical spelling.
func segments(path string, allowed urlpath.Spellings) iter.Seq2[urlpath.Decoded, error] {
	return func(yield func(urlpath.Decoded, error) bool) {
		rest, more := strings.CutPrefix(path, "/")
		if !more {
			yield(urlpath.Decoded{}, errEmptyPath)
		}
		for more {
			var raw string
			raw, rest, more = strings.Cut(rest, "/")
			if raw == "" && more {
				yield(urlpath.Decoded{}, errEmptyPath)
				return
			}
			segment, err := urlpath.DecodeSpelled(raw, allowed)
			if !yield(segment, err) || err != nil {
				return
			}
		}
	}
}

// isQuery reports whether every byte of query may occur in a request line and every percent-encoding
// is complete. It allows more bytes than RFC 3986 section 3.4 does, such as brackets, because clients
// send them unencoded.
func isQuery(query string) bool {
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	_, err := url.PathUnescape(query) // PathUnescape does not change "+"
	return err == nil
}

// parseHost returns the host of authority in lower case and without the port. The port does not
// select an API. A trailing dot is refused, so that a host has only one spelling.
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

// isHostName reports whether host consists of non-empty labels of letters, digits, hyphens and
// underscores, separated by dots, with at most 253 bytes: the 255 of RFC 1035 section 2.3.4 less the 2
// that the wire format adds.
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
