package mtls

import (
	"cmp"
	"slices"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-DN-08: a partner's authority does not issue certificates for another partner whose authority has
// certified it, whether the file of anchors has that certificate or the client presents it.
func TestAnchorBelowAnothersAnchor(t *testing.T) {
	root, alone := testpki.NewCA("Consortium Root"), testpki.NewCA("Borealis")
	below := root.Intermediate("Borealis below the root")
	crossed := root.Intermediate("Borealis", testpki.Keyed(alone.Key.Public()))
	renewed := root.Intermediate("Borealis, renamed", testpki.Keyed(below.Key))
	other := root.Intermediate("Another authority")
	only := func(anchors ...*testpki.Pair) map[config.Name][]*testpki.Pair {
		return map[config.Name][]*testpki.Pair{"northwind": {root}, "borealis": anchors}
	}
	both := map[config.Name][]*testpki.Pair{"northwind": {root, below}, "borealis": {below}}
	for _, tt := range []struct {
		name      string
		anchors   map[config.Name][]*testpki.Pair
		leaf      *testpki.Pair
		more      []*testpki.Pair
		speaksFor []config.Name
		want      access.Reason
	}{
		{name: "the anchor is shown", anchors: only(below), leaf: below.Leaf("a"), speaksFor: []config.Name{"borealis"}},
		{name: "another authority below the anchor", anchors: only(below), leaf: below.Intermediate("Issuing").Leaf("a"), speaksFor: []config.Name{"borealis"}},
		{name: "a cross-certificate is shown", anchors: only(alone), leaf: alone.Leaf("a"), more: []*testpki.Pair{crossed}, speaksFor: []config.Name{"borealis"}},
		{name: "the anchor's key under another name", anchors: only(below), leaf: renewed.Leaf("a"), want: access.UntrustedCertificate},
		{name: "an authority in no list", anchors: only(below), leaf: other.Leaf("a"), speaksFor: []config.Name{"northwind"}},
		{name: "the root itself", anchors: only(below), leaf: root.Leaf("a"), speaksFor: []config.Name{"northwind"}},
		{name: "listed by both", anchors: both, leaf: below.Leaf("a"), speaksFor: []config.Name{"northwind", "borealis"}},
	} {
		trust := load(t, false, tt.anchors)
		c, err := client(trust, chain(tt.leaf, tt.more...))
		if want := cmp.Or(tt.want, access.Granted); reason(err) != want {
			t.Errorf("%s: %v", tt.name, err)
		}
		for name, anchors := range trust.Anchors() {
			if want := slices.Contains(tt.speaksFor, name); c.ChainsTo(anchors) != want {
				t.Errorf("%s: it speaks for %s: %t, want %t", tt.name, name, !want, want)
			}
		}
	}
}

// The same for resource servers, and for partners with the anchors of the listener.
func TestAnchorBelowSharedAnchor(t *testing.T) {
	dir := t.TempDir()
	root := testpki.NewCA("Consortium Root")
	below := root.Intermediate("Borealis")
	rootFile, _ := root.Write(dir, "root")
	belowFile, _ := below.Write(dir, "below")
	cfg := &config.Config{}
	cfg.Partners.List = []config.Partner{{Name: "borealis", Trust: []config.Path{config.Path(belowFile)}}}
	cfg.Issuer = &config.Issuer{ResourceServers: []config.ResourceServer{{ClientID: "api", Trust: []config.Path{config.Path(rootFile)}}}}
	for _, shared := range []bool{false, true} {
		if shared {
			cfg.Listener.ClientCertificates.Trust = []config.Path{config.Path(rootFile)}
			cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: "northwind"})
		}
		trust, err := LoadTrust(cfg, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := client(trust, chain(below.Leaf("a")))
		if err != nil {
			t.Fatal(err)
		}
		if c.ChainsTo(trust.ResourceServerAnchors()["api"]) || c.ChainsTo(trust.Anchors()["northwind"]) || !c.ChainsTo(trust.Anchors()["borealis"]) {
			t.Errorf("shared %t: it speaks for the wrong one", shared)
		}
	}
}
