package config

import (
	"slices"
	"strings"
)

// clientCert is the only name that upstreams know for a forwarded certificate, RFC
// 9440 section 2.2.
const clientCert HeaderName = "Client-Cert"

func (k *checker) identityHeaders() {
	h := &k.config.IdentityHeaders
	k.prefix("identity_headers.prefix", string(h.Prefix))
	type header struct {
		key  string
		name HeaderName
	}
	named := []header{
		{"partner", h.Partner},
		{"client_id", h.ClientID},
		{"scopes", h.Scopes},
		{"subject", h.Subject},
		{"thumbprint", h.Thumbprint},
	}
	// Where no route asks for one, the default may have another prefix.
	if k.asksForAssertion() || k.isSet("identity_headers.assertion") {
		named = append(named, header{"assertion", h.Assertion})
	}
	seen := make(map[HeaderName]string, len(named))
	for _, n := range named {
		path := "identity_headers." + n.key
		unique(k, seen, path, "the header", n.name)
		rest, ok := strings.CutPrefix(string(n.name), string(h.Prefix))
		if n.name != "" && (!ok || rest == "") && !k.undecoded("identity_headers.prefix") {
			// Only what begins with the prefix is removed from requests in every spelling.
			k.fault(path, "must begin with the prefix %q and go on", h.Prefix)
		}
	}
	if h.Certificate != "" && h.Certificate != clientCert {
		k.fault("identity_headers.certificate", "must be %s (RFC 9440 section 2.2), or empty to send none", clientCert)
	}
}

// asksForAssertion reports whether a route wants the header with the assertion.
func (k *checker) asksForAssertion() bool {
	return slices.ContainsFunc(k.config.APIs, func(a API) bool {
		return slices.ContainsFunc(a.Routes, func(r Route) bool { return r.Assertion })
	})
}

// prefix checks that a prefix exists, ends a word, and takes no header along that
// requests need.
func (k *checker) prefix(path, prefix string) {
	switch {
	case prefix == "":
		k.fault(path, "must not be empty")
	case !strings.HasSuffix(prefix, "-"):
		k.fault(path, "must end in a hyphen")
	case reservedWith(prefix) != "":
		k.fault(path, "would take %s away from every request", reservedWith(prefix))
	}
}
