package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tallygate/tallygate/internal/ascii"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// The maximum lengths. They are small because names are metric labels and header values.
const (
	maxName     = 64
	maxClientID = 128
)

// UnmarshalText reads a name.
func (n *Name) UnmarshalText(text []byte) error {
	for i, c := range text {
		if !ascii.IsAlphanumeric(c) && (i == 0 || !strings.ContainsRune("._-", rune(c))) {
			return errName
		}
	}
	if len(text) == 0 || len(text) > maxName {
		return errName
	}
	*n = Name(text)
	return nil
}

var errName = fmt.Errorf("a name is 1 to %d letters, digits, dots, underscores and hyphens, first a letter or digit", maxName)

// UnmarshalText reads a client identifier. RFC 6749 appendix A.1 also allows spaces. Spaces are
// refused, because logs and headers would not preserve them.
func (c *ClientID) UnmarshalText(text []byte) error {
	if len(text) == 0 || len(text) > maxClientID || !isPrintable(text) {
		return errClientID
	}
	*c = ClientID(text)
	return nil
}

var errClientID = fmt.Errorf("a client identifier is 1 to %d printable ASCII characters without spaces", maxClientID)

// UnmarshalText reads one scope token.
func (s *Scope) UnmarshalText(text []byte) error {
	if len(text) == 0 || !isPrintable(text) || strings.ContainsAny(string(text), `"\`) {
		return errScope
	}
	*s = Scope(text)
	return nil
}

var errScope = errors.New(`a scope is printable ASCII without spaces, quotation marks and backslashes; write several as a list`)

// UnmarshalText reads a client authentication method.
func (a *Authentication) UnmarshalText(text []byte) error {
	return oneOf(a, text, TLSClientAuth, SelfSignedTLSClientAuth)
}

// UnmarshalText reads a spelling of path segments.
func (e *PathEncoding) UnmarshalText(text []byte) error {
	return oneOf(e, text, AllowEncodedSlash, AllowSemicolon, AllowEncodedUnreserved, AllowNonUTF8, AllowOuterSpace)
}

// UnmarshalText reads how a trailing slash is treated.
func (s *TrailingSlash) UnmarshalText(text []byte) error {
	return oneOf(s, text, ExactSlash, OptionalSlash)
}

// UnmarshalText reads an extended key usage.
func (u *CertificateUsage) UnmarshalText(text []byte) error {
	return oneOf(u, text, UsageClientAuth, UsageServerAuth)
}

// UnmarshalText reads the kinds of tokens of a server.
func (t *TokenKinds) UnmarshalText(text []byte) error {
	return oneOf(t, text, JWTOnly, OpaqueOnly, BothKinds)
}

// UnmarshalText reads an authentication method at an introspection endpoint.
func (m *IntrospectionMethod) UnmarshalText(text []byte) error {
	return oneOf(m, text, MethodTLS, MethodSecretBasic, MethodSecretPost, MethodPrivateKeyJWT, MethodBearer)
}

// UnmarshalText reads a permission of an operator.
func (p *Permission) UnmarshalText(text []byte) error {
	return oneOf(p, text, PermissionRevoke, PermissionRead)
}

// UnmarshalText reads the format of an access token.
func (f *TokenFormat) UnmarshalText(text []byte) error {
	return oneOf(f, text, JWT, Opaque)
}

// UnmarshalText reads how a connection without a trusted certificate is treated. It still accepts
// answer, the earlier name of respond, so that existing configurations continue to work.
func (o *OnFailure) UnmarshalText(text []byte) error {
	if string(text) == "answer" {
		*o = Respond
		return nil
	}
	return oneOf(o, text, Respond, Handshake)
}

// UnmarshalText reads how a certificate of unknown status is treated.
func (w *WhenStale) UnmarshalText(text []byte) error {
	return oneOf(w, text, RefuseStale, AcceptStale)
}

// UnmarshalText reads which granted requests are logged.
func (g *LogGranted) UnmarshalText(text []byte) error {
	return oneOf(g, text, LogSample, LogAll)
}

// UnmarshalText reads which lines about requests have the path.
func (p *LogPaths) UnmarshalText(text []byte) error {
	return oneOf(p, text, LogUnmatchedPaths, LogAllPaths, LogNoPaths)
}

// UnmarshalText reads what happens to the trace context of a partner's requests.
func (c *TraceContext) UnmarshalText(text []byte) error {
	return oneOf(c, text, NewTraceContext, TrustedTraceContext)
}

// UnmarshalText reads where the ids of requests come from.
func (s *RequestIDSource) UnmarshalText(text []byte) error {
	return oneOf(s, text, NewRequestID, ClientRequestID)
}

// UnmarshalText reads the source of client certificates.
func (s *CertificateSource) UnmarshalText(text []byte) error {
	return oneOf(s, text, FromTLS, FromHeader)
}

// UnmarshalText reads the format of a certificate in a header.
func (f *HeaderFormat) UnmarshalText(text []byte) error {
	return oneOf(f, text, FormatRFC9440, FormatXFCC, FormatPEM)
}

// UnmarshalText reads a signature algorithm. "none" is refused. Symmetric algorithms are refused too,
// because every server that can verify a token with such an algorithm can also forge one.
func (a *Algorithm) UnmarshalText(text []byte) error {
	return oneOf(a, text, ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512, EdDSA, Ed25519)
}

// oneOf sets *v to the element of known that text spells exactly.
func oneOf[T ~string](v *T, text []byte, known ...T) error {
	names := make([]string, len(known))
	for i, k := range known {
		if string(text) == string(k) {
			*v = k
			return nil
		}
		names[i] = string(k)
	}
	return unknownValue(text, names, strictyaml.DidYouMean(string(text), names))
}

// An enumError is the error for a text that is not in an enumeration. The JSON Schema of the
// configuration has its values, so that parser and schema have the same enumeration.
type enumError struct {
	values  []string
	message string
}

// unknownValue returns the error for a text that is not in values. hint is the end of its message.
func unknownValue(text []byte, values []string, hint string) error {
	return &enumError{values, "expected " + orList(values) + ", got " + strictyaml.Quote(string(text)) + hint}
}

func (e *enumError) Error() string { return e.message }

// orList joins names as in "a, b or c".
func orList(names []string) string { return joined(names, " or ") }

// andList joins names as in "a, b and c".
func andList(names []string) string { return joined(names, " and ") }

func joined(names []string, word string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + word + names[last]
}

// isPrintable reports whether text is visible ASCII, without spaces and control characters.
func isPrintable(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
