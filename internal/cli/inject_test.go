package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestInjectedArguments: serve accepts every --application-probe that inject writes.
func TestInjectedArguments(t *testing.T) {
	outputs, err := filepath.Glob("../inject/testdata/golden/*/output.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, output := range outputs {
		content, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		var first yaml.Node
		if err := yaml.Unmarshal(content, &first); err != nil {
			t.Fatal(err)
		}
		values := flagValues(&first, "--application-probe")
		seen += len(values)
		if _, err := applicationProbes(values); err != nil {
			t.Errorf("%s: %v", output, err)
		}
	}
	if seen < 3 {
		t.Errorf("got %d probes in all outputs, want at least the 3 of probes-forwarded", seen)
	}
}

// flagValues returns the items that follow flag in the lists inside n, as Kubernetes passes them on.
func flagValues(n *yaml.Node, flag string) (values []string) {
	for i, inside := range n.Content {
		if n.Kind == yaml.SequenceNode && i > 0 && n.Content[i-1].Value == flag {
			values = append(values, strings.ReplaceAll(inside.Value, "$$(", "$("))
		}
		values = append(values, flagValues(inside, flag)...)
	}
	return values
}
