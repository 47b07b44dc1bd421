package policy

import (
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// Each binding of an API with each binding of a token.
func TestCheckBinding(t *testing.T) {
	x5t, jkt := access.Thumbprint{1}, access.Thumbprint{2}
	certificate, key, both := access.Confirmation{Present: true, Thumbprint: x5t}, access.Confirmation{Present: true, Key: jkt}, access.Confirmation{Present: true, Thumbprint: x5t, Key: jkt}
	for binding, want := range map[config.Binding][3]bool{
		config.BoundToCertificate: {true, false, false},
		config.BoundToKey:         {false, true, true},
		config.BoundToEither:      {true, true, true},
		config.BoundToBoth:        {false, false, true},
		"":                        {true, false, false},
	} {
		for i, c := range []access.Confirmation{certificate, key, both} {
			if err := checkBinding(binding, c); (err == nil) != want[i] {
				t.Errorf("binding %q: checkBinding of %+v = %v, want accepted %t", binding, c, err, want[i])
			}
		}
	}
	for _, binding := range []config.Binding{config.BoundToKey, config.BoundToEither, config.BoundToBoth} {
		if checkBinding(binding, access.Confirmation{}) == nil {
			t.Errorf("binding %q: checkBinding of no confirmation = nil, want an error", binding)
		}
	}
}

// A host offers the bindings that any of its APIs takes, for every path.
func TestBindings(t *testing.T) {
	certificate, key := Bindings{Certificate: true}, Bindings{Key: true}
	if got := certificate.with(config.BoundToKey); got != (Bindings{Certificate: true, Key: true}) {
		t.Errorf("certificate and dpop = %+v, want both", got)
	}
	for binding, want := range map[config.Binding]Bindings{
		config.BoundToCertificate: certificate, config.BoundToKey: key, config.BoundToBoth: key,
		config.BoundToEither: {Certificate: true, Key: true},
	} {
		if got := (Bindings{}).with(binding); got != want {
			t.Errorf("binding %s = %+v, want %+v", binding, got, want)
		}
	}
	if got := new(Table).Bindings("nowhere.test"); got != certificate {
		t.Errorf("Bindings of an unknown host = %+v, want those of certificates", got)
	}
}
