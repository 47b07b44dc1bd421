package http1

import (
	"strings"

	"github.com/tallygate/tallygate/internal/ascii"
)

const version = "HTTP/1."

// requestLine parses the request line (RFC 9112 section 3). Between its parts is exactly one space.
func (p *Parser) requestLine(received []byte, at span) error {
	line := received[at.from:at.to]
	method := prefix(line, inToken)
	if method == 0 || method == len(line) || line[method] != ' ' {
		return ErrRequestLine
	}
	rest := line[method+1:]
	target := targetPrefix(rest)
	if target == 0 || target == len(rest) || rest[target] != ' ' {
		return ErrRequestLine
	}
	p.method = span{at.from, at.from + method}
	p.target = span{at.from + method + 1, at.from + method + 1 + target}
	return p.version(rest[target+1:])
}

func (p *Parser) version(b []byte) error {
	if len(b) != len(version)+1 || string(b[:len(version)]) != version || b[len(version)] != '0' && b[len(version)] != '1' {
		return ErrVersion
	}
	p.minor = b[len(version)] - '0'
	return nil
}

// host returns the host of a request whose target does not begin with a slash. The authority in a target of
// absolute-form replaces the Host field (RFC 9112 section 3.2.2), as does the target of CONNECT. Userinfo is
// refused, as RFC 9110 section 4.2.4 recommends, and so are escapes, which some readers decode.
func host(method, target, field string) (string, error) {
	authority := target
	if method != "CONNECT" {
		if target == "*" {
			return field, nil
		}
		scheme, rest, found := strings.Cut(target, "://")
		if !found || !ascii.EqualFold(scheme, "http") && !ascii.EqualFold(scheme, "https") {
			return "", ErrRequestLine
		}
		authority = rest
		if end := strings.IndexAny(rest, "/?"); end >= 0 {
			authority = rest[:end]
		}
	}
	if authority == "" || !all(authority, inHost) || strings.Contains(authority, "%") {
		return "", ErrHost
	}
	return authority, nil
}

// statusLine parses the status line (RFC 9112 section 4). Many servers omit the space before an empty
// reason, so the space may be absent. The reason may contain obs-text.
func (p *Parser) statusLine(received []byte, at span) error {
	line := received[at.from:at.to]
	const code, reason = len(version) + 2, len(version) + 5 // offsets of the status code and of what follows it
	if len(line) < reason || line[code-1] != ' ' || len(line) > reason && line[reason] != ' ' {
		return ErrStatusLine
	}
	if line[code] == '0' || !isDigit(line[code]) || !isDigit(line[code+1]) || !isDigit(line[code+2]) || valuePrefix(line[reason:]) < len(line)-reason {
		return ErrStatusLine
	}
	p.status = span{at.from + code, at.from + reason}
	return p.version(line[:code-1])
}
