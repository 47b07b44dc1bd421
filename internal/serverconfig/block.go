package serverconfig

import (
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// A block is the section authorization_servers of a configuration. It has one server.
type block struct {
	issuer, ca      string
	settings        config.AuthorizationServer
	opaque          bool
	endpointUnknown bool
	notes           map[string][]string // the comments of each setting
}

// note adds a comment to a setting. The comment must hold no line break.
func (b *block) note(setting, comment string) {
	if b.notes == nil {
		b.notes = map[string][]string{}
	}
	b.notes[setting] = append(b.notes[setting], comment)
}

// text returns the block. Settings that the profile sets are left out.
func (b *block) text() string {
	s, d := b.settings, b.settings.Profile.Defaults()
	var out strings.Builder
	out.WriteString("authorization_servers:\n")
	line := func(setting, value string, comments ...string) {
		indent := "    "
		if setting == "name" {
			indent = "  - "
		}
		text := indent + setting + ": " + value
		if all := slices.Concat(comments, b.notes[setting]); len(all) > 0 {
			text += " # " + strings.Join(all, "; ")
		}
		out.WriteString(text + "\n")
	}
	line("name", scalar(b.name()), "in logs and metrics")
	line("issuer", scalar(b.issuer))
	if s.Profile != config.ProfileRFC9068 {
		line("profile", string(s.Profile), "sets which claims and algorithms the product uses")
	}
	if b.opaque {
		b.note("audiences", "replace by aud of the introspection responses")
		s.Audiences = []string{"https://api.example.com"}
	}
	line("audiences", list(s.Audiences))
	if b.opaque {
		line("tokens", string(config.OpaqueOnly), "the token is no JWT")
	}
	b.overruled(line, s, d)
	if b.ca != "" {
		line("connection", "{trust: "+list([]string{b.ca})+"}", "the authority of the server's own certificate, relative to this file")
	}
	if b.opaque {
		line("introspection", "", "how the gate asks the server about tokens (RFC 7662)")
		if b.endpointUnknown {
			out.WriteString("      endpoint: " + scalar(strings.TrimSuffix(b.issuer, "/")+"/introspect") + " # replace: the metadata names none\n")
		}
		out.WriteString("      client_id: accounts-gate # replace: the gate's own client at the server\n")
		out.WriteString("      authentication: {method: client_secret_basic, secret_file: gate-secret.txt}\n")
	}
	return out.String()
}

// overruled writes the settings whose values differ from the values of the profile.
func (b *block) overruled(line func(setting, value string, comments ...string), s, d config.AuthorizationServer) {
	for _, one := range []struct {
		setting   string
		got, want any
		value     string
	}{
		{"algorithms", s.Algorithms, d.Algorithms, list(s.Algorithms)},
		{"types", s.Types, d.Types, list(s.Types)},
		{"client_claim", s.ClientClaim, d.ClientClaim, list(s.ClientClaim)},
		{"scope_claim", s.ScopeClaim, d.ScopeClaim, scalar(string(s.ScopeClaim))},
		{"confirmation_claim", s.ConfirmationClaim, d.ConfirmationClaim, scalar(string(s.ConfirmationClaim))},
	} {
		if !reflect.DeepEqual(one.got, one.want) {
			line(one.setting, one.value)
		}
	}
}

// name returns the name of the server in the configuration: the name of its product, or its host.
func (b *block) name() string {
	if b.settings.Profile != config.ProfileRFC9068 {
		return string(b.settings.Profile)
	}
	if u, err := url.Parse(b.issuer); err == nil && regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$`).MatchString(u.Hostname()) {
		return u.Hostname()
	}
	return "server"
}

// list returns a YAML list.
func list[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = scalar(string(v))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// plain matches strings that need no quotes in YAML: names that begin with a letter, and URLs. It also
// matches words such as "true", but scalar quotes these words.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.+-]*(://[A-Za-z0-9_.~-]+(:[0-9]+)?(/[A-Za-z0-9_.~/-]*)?)?$`)

// scalar returns s as a YAML scalar. If s needs quotes, it is quoted as in Go, whose escapes are valid
// in YAML's double-quoted scalars.
func scalar(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return strconv.QuoteToASCII(s)
	}
	if plain.MatchString(s) {
		return s
	}
	return strconv.QuoteToASCII(s)
}
