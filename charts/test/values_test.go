package chart_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// Each value is set in a unit test or in an example, so that something fails when a template forgets it.
func TestEveryValueIsTested(t *testing.T) {
	set := map[string]bool{}
	suites, err := filepath.Glob(chart + "/tests/*_test.yaml")
	if err != nil || len(suites) == 0 {
		t.Fatal("no suites of helm-unittest", err)
	}
	for _, file := range suites {
		var suite struct {
			Tests []struct {
				Set map[string]any `json:"set"`
			} `json:"tests"`
		}
		load(t, file, &suite)
		for _, test := range suite.Tests {
			addPaths("", test.Set, set)
		}
	}
	for _, file := range values(t) {
		var all map[string]any
		load(t, file, &all)
		addPaths("", all, set)
	}
	var defaults map[string]any
	load(t, chart+"/values.yaml", &defaults)
	known := map[string]bool{}
	addPaths("", defaults, known)
	// TestSidecar sets sidecar. The other maps have types of Kubernetes, and are set as a whole.
	others := regexp.MustCompile(`^sidecar|^(pod|container)SecurityContext\.|^dashboard\.labels\.`)
	for _, path := range slices.Sorted(maps.Keys(known)) {
		if !set[path] && !others.MatchString(path) {
			t.Errorf("no unit test sets %s", path)
		}
	}
}

func load(t *testing.T, file string, to any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, to); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// addPaths adds the paths of all values in a map, and of the maps in it.
func addPaths(prefix string, values map[string]any, to map[string]bool) {
	for key, value := range values {
		below, _ := value.(map[string]any)
		to[prefix+key] = true
		addPaths(prefix+key+".", below, to)
	}
}
