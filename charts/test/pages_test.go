package chart_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// peerAuthentication has the fields of Istio's type that the page uses. The names are those of its reference.
type peerAuthentication struct {
	APIVersion string                  `json:"apiVersion"`
	Kind       string                  `json:"kind"`
	Metadata   struct{ Name string }   `json:"metadata"`
	Spec       peerAuthenticationRules `json:"spec"`
}

type peerAuthenticationRules struct {
	Selector      struct{ MatchLabels map[string]string } `json:"selector"`
	MTLS          struct{ Mode string }                   `json:"mtls"`
	PortLevelMTLS map[string]struct{ Mode string }        `json:"portLevelMtls"`
}

// The manifests that the pages about Kubernetes show decode strictly as the types of their APIs.
func TestPages(t *testing.T) {
	kinds := map[string]int{}
	for _, page := range []string{"kubernetes.md", "migrating-ingress.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		var blocks []string
		for _, m := range regexp.MustCompile("(?s)```yaml\n(apiVersion:.*?)```").FindAllSubmatch(text, -1) {
			blocks = append(blocks, string(m[1]))
		}
		for _, m := range regexp.MustCompile("(?s)<<'EOF'\n(apiVersion:.*?)\nEOF\n").FindAllSubmatch(text, -1) {
			blocks = append(blocks, strings.Split(string(m[1]), "\n---\n")...)
		}
		for _, block := range blocks {
			var about struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal([]byte(block), &about); err != nil {
				t.Fatalf("%s: %v\n%s", page, err, block)
			}
			object, known := map[string]any{
				"apps/v1 Deployment":                      &apps.Deployment{},
				"gateway.networking.k8s.io/v1 Gateway":    &gateway.Gateway{},
				"gateway.networking.k8s.io/v1 TLSRoute":   &gateway.TLSRoute{},
				"networking.k8s.io/v1 Ingress":            &networking.Ingress{},
				"networking.k8s.io/v1 NetworkPolicy":      &networking.NetworkPolicy{},
				"security.istio.io/v1 PeerAuthentication": &peerAuthentication{},
				"v1 Service": &core.Service{},
			}[about.APIVersion+" "+about.Kind]
			if !known {
				t.Errorf("%s has a %s %s", page, about.APIVersion, about.Kind)
				continue
			}
			kinds[about.Kind]++
			if err := yaml.UnmarshalStrict([]byte(block), object); err != nil {
				t.Errorf("%s: %s: %v", page, about.Kind, err)
			}
		}
	}
	if len(kinds) != 7 {
		t.Errorf("the pages show %q, want all kinds of the test", slices.Sorted(maps.Keys(kinds)))
	}
}
