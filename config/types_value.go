package config

import (
	"encoding/hex"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// UnmarshalText reads a path unchanged. Empty text means no file. A text with several lines is
// probably the content of a file instead of its path. The content may be a private key, so errors do
// not quote the text.
func (p *Path) UnmarshalText(text []byte) error {
	if strings.ContainsAny(string(text), "\x00\n\r") {
		return errors.New("expected the path of a file, not its contents")
	}
	*p = Path(text)
	return nil
}

// UnmarshalText reads a number of bytes.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "BKMGi")
	shift, known := map[string]uint{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[string(text[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || !known || n > math.MaxInt64>>shift {
		return errBytes
	}
	*b = Bytes(n << shift)
	return nil
}

var errBytes = errors.New("a size is a whole number with the unit B, KiB, MiB or GiB, such as 32KiB")

// UnmarshalText reads a log level. It refuses offsets such as info+2, which slog accepts.
func (l *LogLevel) UnmarshalText(text []byte) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[string(text)]
	if !ok {
		return unknownValue(text, []string{"debug", "info", "warn", "error"}, "")
	}
	*l = LogLevel(level)
	return nil
}

// UnmarshalText reads a protocol version.
func (v *TLSVersion) UnmarshalText(text []byte) error {
	switch string(text) {
	case "1.2":
		*v = TLS12
	case "1.3":
		*v = TLS13
	default:
		return &enumError{[]string{"1.2", "1.3"}, `expected "1.2" or "1.3", got ` + strictyaml.Quote(string(text))}
	}
	return nil
}

// thumbprintText parses an [access.Thumbprint] in every notation that tools print. access.Thumbprint
// itself has no UnmarshalText, because with such a method these notations would be accepted in tokens
// too, and the JSON of a thumbprint would change.
type thumbprintText access.Thumbprint

// UnmarshalText reads a thumbprint in base64url, as [access.ParseThumbprint] does, or in 64
// hexadecimal digits with or without colons.
func (t *thumbprintText) UnmarshalText(text []byte) error {
	s := string(text)
	if parsed, err := access.ParseThumbprint(s); err == nil {
		*t = thumbprintText(parsed)
		return nil
	}
	const digits = 2 * len(t)
	switch len(s) {
	case digits:
	case digits + len(t) - 1: // a colon after each pair of digits except the last
		for i := 2; i < len(s); i += 3 {
			if s[i] != ':' {
				return errThumbprint
			}
		}
		s = strings.ReplaceAll(s, ":", "")
	default:
		return errThumbprint
	}
	sum, err := hex.DecodeString(s)
	if err != nil || len(sum) != len(t) || thumbprintText(sum) == (thumbprintText{}) {
		return errThumbprint
	}
	*t = thumbprintText(sum)
	return nil
}

var errThumbprint = errors.New("a thumbprint is the SHA-256 of a certificate: 43 characters of base64url without padding, or 64 hexadecimal digits with or without colons")
