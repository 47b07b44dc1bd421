package policy

import (
	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// Bindings say which kinds of binding the APIs of a host accept.
type Bindings struct {
	Certificate bool // tokens that are bound to a certificate alone, RFC 8705
	Key         bool // tokens that are bound to a key, RFC 9449
}

// Bindings returns the bindings that the APIs of host accept. host has the form of [Target.Host]. The
// result is the same for every path, so that a challenge does not tell which paths exist.
func (t *Table) Bindings(host string) Bindings {
	if root := t.root(host); root != nil {
		return root.bindings
	}
	return Bindings{Certificate: true}
}

// with returns b together with the bindings that an API with the setting binding accepts.
func (b Bindings) with(binding config.Binding) Bindings {
	return Bindings{Certificate: b.Certificate || binding.TakesBearer(), Key: b.Key || binding.TakesKey()}
}

// checkBinding returns nil if an API with the setting binding accepts a token with the confirmation
// c. Package validate has already checked every member of c and refused tokens without a binding.
func checkBinding(binding config.Binding, c access.Confirmation) error {
	certificate, key := c.Thumbprint != access.Thumbprint{}, c.Key != access.Thumbprint{}
	var accepted bool
	switch binding {
	case config.BoundToKey:
		accepted = key
	case config.BoundToEither:
		accepted = certificate || key
	case config.BoundToBoth:
		accepted = certificate && key
	case config.BoundToCertificate, "": // a Config that was not loaded from a file has ""
		accepted = !key
	}
	if accepted {
		return nil
	}
	return &access.Mismatch{Name: "cnf", Want: "what binding: " + string(binding) + " of the API takes", Got: boundTo(certificate, key)}
}

// boundTo returns the names of the members of a cnf, for the log.
func boundTo(certificate, key bool) string {
	switch {
	case certificate && key:
		return "x5t#S256 and jkt"
	case key:
		return "jkt alone"
	default:
		return "x5t#S256 alone"
	}
}
