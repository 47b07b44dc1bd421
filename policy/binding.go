package policy

import (
	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// Bindings say which bindings the APIs of a host take.
type Bindings struct {
	Certificate bool // tokens that are bound to a certificate alone, RFC 8705
	Key         bool // tokens that are bound to a key, RFC 9449
}

// Bindings returns the bindings that the APIs of host take, in the form of [Target.Host]. Paths make
// no difference, so that a challenge does not tell which paths exist.
func (t *Table) Bindings(host string) Bindings {
	if root := t.root(host); root != nil {
		return root.bindings
	}
	return Bindings{Certificate: true}
}

// with returns b, extended by the bindings that an API with binding takes.
func (b Bindings) with(binding config.Binding) Bindings {
	return Bindings{Certificate: b.Certificate || binding.TakesBearer(), Key: b.Key || binding.TakesKey()}
}

// checkBinding returns nil if an API with the binding takes a token with the confirmation c, all of
// which package validate has checked. A token without a binding does not get here.
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
	case config.BoundToCertificate, "": // "" stands in a configuration that is not loaded from a file
		accepted = !key
	}
	if accepted {
		return nil
	}
	return &access.Mismatch{Name: "cnf", Want: "what binding: " + string(binding) + " of the API takes", Got: boundTo(certificate, key)}
}

// boundTo names the members of a cnf.
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
