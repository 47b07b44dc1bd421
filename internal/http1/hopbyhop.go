package http1

import (
	"strings"

	"github.com/tallygate/tallygate/internal/ascii"
)

// HopByHop are the names, in lower case, of the fields that concern one connection or a proxy, or that frame
// their message. A proxy does not forward them (RFC 9110 sections 7.6.1 and 11.7).
var HopByHop = [...]string{
	"connection", "content-length", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
	"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// hopByHopOfLength are the names in HopByHop by their length.
var hopByHopOfLength = func() (names [len("proxy-authorization") + 1][]string) {
	for _, name := range HopByHop {
		names[len(name)] = append(names[len(name)], name)
	}
	return names
}()

// IsHopByHop reports whether HopByHop has this name. The case of ASCII letters makes no difference.
func IsHopByHop(name string) bool {
	if len(name) >= len(hopByHopOfLength) {
		return false
	}
	for _, n := range hopByHopOfLength[len(name)] {
		if ascii.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// NamedFields are the fields that the field Connection of a message names, besides those that are
// hop-by-hop in every message (RFC 9110 section 7.6.1). The zero value has no field.
type NamedFields struct{ names map[string]bool }

// Add adds the names in value, a value of the field Connection.
func (f *NamedFields) Add(value string) {
	for option := range strings.SplitSeq(value, ",") {
		option = strings.Trim(option, " \t")
		if option == "" || ascii.EqualFold(option, "close") || IsHopByHop(option) || !IsToken(option) {
			continue
		}
		if f.names == nil {
			f.names = make(map[string]bool)
		}
		f.names[strings.ToLower(option)] = true
	}
}

// Has reports whether f has the field with this name, a token. The case of letters makes no difference.
func (f *NamedFields) Has(name string) bool { return f.names != nil && f.names[strings.ToLower(name)] }
