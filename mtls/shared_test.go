package mtls

import (
	"crypto/x509/pkix"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-ADD-10: the name constraints of an anchor in one list are not lifted by a list with the same key and no
// constraints.
func TestSharedConstraints(t *testing.T) {
	dir := t.TempDir()
	root := testpki.NewCA("Root")
	write := func(name string, ca *testpki.Pair) config.Path {
		file, _ := ca.Write(dir, name)
		return config.Path(file)
	}
	permit := testpki.PermitDirectory(pkix.Name{Organization: []string{"Borealis"}})
	free, limited := write("free", root), write("limited", testpki.NewCA("Root", testpki.Keyed(root.Key), permit))
	renewed := write("renewed", testpki.NewCA("Root", testpki.Keyed(root.Key), permit))
	other := write("other", testpki.NewCA("Root"))
	for _, tt := range []struct {
		name             string
		listener, a, b   config.Path
		server, moreForB config.Path
		want             string
	}{
		{name: "one has constraints", a: free, b: limited, want: "partners.list[1].trust: an anchor has the key of an anchor in partners.list[0].trust"},
		{name: "the other has them", a: limited, b: free, want: "partners.list[1].trust"},
		{name: "the listener's has none", listener: free, a: other, b: limited, want: "partners.list[1].trust: an anchor has the key of an anchor in listener.client_certificates.trust"},
		{name: "a resource server's has none", a: other, b: limited, server: free, want: "issuer.resource_servers[0].trust"},
		{name: "one list has both", a: limited, b: limited, moreForB: free, want: "partners.list[1].trust"},
		{name: "both have the same", a: limited, b: renewed},
		{name: "one list alone has both", a: other, b: limited, moreForB: free},
		{name: "other keys", a: other, b: limited},
	} {
		cfg := &config.Config{}
		list := func(files ...config.Path) (paths []config.Path) {
			for _, f := range files {
				if f != "" {
					paths = append(paths, f)
				}
			}
			return paths
		}
		cfg.Listener.ClientCertificates.Trust = list(tt.listener)
		cfg.Partners.List = []config.Partner{{Name: "a", Trust: list(tt.a)}, {Name: "b", Trust: list(tt.b, tt.moreForB)}}
		cfg.Issuer = &config.Issuer{ResourceServers: []config.ResourceServer{{ClientID: "api", Trust: list(tt.server)}}}
		_, err := LoadTrust(cfg, Options{})
		if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
