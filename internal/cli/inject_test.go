package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/inject"
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

// TestJoinManifests: each file begins with a line --- in the joined text, whether or not the file before it ends with a
// line break.
func TestJoinManifests(t *testing.T) {
	for _, second := range []string{"kind: B\n", "---\nkind: B\n", "--- # the second\nkind: B\n", "---\r\nkind: B\r\n", "---kind: B\n"} {
		for _, first := range []string{"kind: A", "kind: A\n"} {
			joined := string(joinManifests([]inject.File{{Text: []byte(first)}, {Text: []byte(second)}}))
			want := "kind: A\n" + second
			if !strings.HasPrefix(second, "---") || strings.HasPrefix(second, "---kind") {
				want = "kind: A\n---\n" + second
			}
			if joined != want {
				t.Errorf("%q and %q joined are %q, want %q", first, second, joined, want)
			}
		}
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
