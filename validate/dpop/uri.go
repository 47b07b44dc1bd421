package dpop

import (
	"fmt"
	"strings"

	"github.com/tallygate/tallygate/internal/ascii"
)

// sameURI reports whether htu is the URI https://authority path without its query and fragment, RFC
// 9449 section 4.3. Both URIs are normalised first: by syntax, RFC 3986 section 6.2.2, and by scheme,
// RFC 3986 section 6.2.3.
func sameURI(htu, authority, path string) bool {
	scheme, rest, ok := strings.Cut(withoutQuery(htu), "://")
	if !ok || !ascii.EqualFold(scheme, "https") {
		return false
	}
	end := strings.IndexByte(rest, '/')
	if end < 0 {
		end = len(rest)
	}
	got, gotOK := normalPath(rest[end:])
	want, wantOK := normalPath(path)
	return gotOK && wantOK && got == want && ascii.EqualFold(withoutPort(rest[:end]), withoutPort(authority)) && authority != ""
}

func withoutQuery(uri string) string {
	if end := strings.IndexAny(uri, "?#"); end >= 0 {
		return uri[:end]
	}
	return uri
}

// loggable returns uri for the log: without query and fragment, and with "…" for user information, which
// may have a password.
func loggable(uri string) string {
	uri = withoutQuery(uri)
	start := strings.Index(uri, "://") + 1 // 0 without a scheme: all of uri may be an authority
	end := strings.LastIndexByte(uri, '@')
	if end < 0 {
		return uri
	}
	if start > 0 {
		start += len("//")
	}
	return uri[:min(start, end)] + "…" + uri[end:]
}

// withoutPort returns authority without the port 443 and without an empty port. User information stays,
// so that an htu with user information never equals the authority of a request, which has none.
func withoutPort(authority string) string {
	if host, ok := strings.CutSuffix(authority, ":443"); ok {
		return host
	}
	return strings.TrimSuffix(authority, ":")
}

// normalPath returns path with decoded unreserved characters, upper-case escapes and no dot segments.
// It also reports whether the escapes of path are complete. The empty path becomes "/".
func normalPath(path string) (string, bool) {
	if path == "" {
		return "/", true
	}
	if strings.Contains(path, "%") {
		var ok bool
		if path, ok = normalEscapes(path); !ok {
			return "", false
		}
	}
	if strings.Contains(path, "/.") {
		path = withoutDots(path)
	}
	return path, true
}

func normalEscapes(path string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		switch c, ok := ascii.Escaped(path[i:]); {
		case !ok:
			return "", false
		case isUnreserved(c):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
		i += 2
	}
	return b.String(), true
}

// isUnreserved reports whether c is an unreserved character, RFC 3986 section 2.3.
func isUnreserved(c byte) bool { return ascii.IsAlphanumeric(c) || strings.IndexByte("-._~", c) >= 0 }

// withoutDots removes the dot segments of path, RFC 3986 section 5.2.4. path begins with a slash.
func withoutDots(path string) string {
	var kept []string
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch {
		case s == ".." && len(kept) > 0:
			kept = kept[:len(kept)-1]
		case s == "." || s == "..":
		default:
			kept = append(kept, s)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}
