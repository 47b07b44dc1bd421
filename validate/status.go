package validate

import (
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
)

// A ServerStatus is the state of an authorization server at one moment, for operators.
type ServerStatus struct {
	Name          string
	Required      bool
	Unready       error              // why its tokens cannot be checked now; nil if they can
	Keys          *jwks.Status       // nil if no signature is verified
	Introspection *introspect.Status // nil without introspection over the network
}

// Status returns the state of each authorization server, in the order of the configuration.
func (v *Validator) Status() []ServerStatus {
	now, all := v.now(), make([]ServerStatus, len(v.servers))
	for i, s := range v.servers {
		all[i] = ServerStatus{Name: s.name, Required: s.required, Unready: s.ready(now)}
		if s.keys != nil {
			keys := s.keys.Status()
			all[i].Keys = &keys
		}
		if s.client != nil {
			state := s.client.Status()
			all[i].Introspection = &state
		}
	}
	return all
}
