package policy

import (
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// T-DN-07: with a shared anchor, an application that registers nothing would accept the certificates of
// the other partner.
func TestCheckAnchors(t *testing.T) {
	one, two, three := access.AnchorKey{1}, access.AnchorKey{2}, access.AnchorKey{3}
	pinned := config.Application{Certificate: config.RegisteredCertificate{Thumbprints: []access.Thumbprint{{1}}}}
	named := config.Application{Certificate: config.RegisteredCertificate{SANURI: "spiffe://b.test/b"}}
	open := config.Application{Authentication: config.TLSClientAuth}
	keys := config.Application{Authentication: config.SelfSignedTLSClientAuth, Keys: config.ClientKeys{Certificates: []config.Path{"a.pem"}}}
	tests := []struct {
		name    string
		a, b    []access.AnchorKey
		of      config.Application // the application of a; the application of b registers a name
		refused bool
	}{
		{"anchors of their own", []access.AnchorKey{one}, []access.AnchorKey{two}, open, false},
		{"the same anchor", []access.AnchorKey{one}, []access.AnchorKey{one}, open, true},
		{"one of several", []access.AnchorKey{two, one}, []access.AnchorKey{one, three}, open, true},
		{"the same, and a thumbprint", []access.AnchorKey{one}, []access.AnchorKey{one}, pinned, false},
		{"the same, and a name", []access.AnchorKey{one}, []access.AnchorKey{one}, named, false},
		{"the same, and certificates of its own", []access.AnchorKey{one}, []access.AnchorKey{one}, keys, false},
		{"listed twice by one partner", []access.AnchorKey{one, one}, []access.AnchorKey{two}, open, false},
		{"none", nil, nil, open, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := &config.Config{Partners: config.Partners{List: []config.Partner{
				{Name: "a", Applications: []config.Application{tt.of}},
				{Name: "b", Applications: []config.Application{named}},
			}}}
			for range 2 { // in either order
				err := CheckAnchors(cfg, map[config.Name][]access.AnchorKey{"a": tt.a, "b": tt.b})
				if refused := err != nil; refused != tt.refused {
					t.Errorf("CheckAnchors = %v, want an error: %t", err, tt.refused)
				}
				if tt.refused && !strings.Contains(err.Error(), "partners a and b share an anchor") {
					t.Errorf("CheckAnchors = %v, want an error: %t", err, tt.refused)
				}
				list := cfg.Partners.List
				list[0], list[1] = list[1], list[0]
			}
		})
	}
}
