package gatetest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Helm returns the path of the helm that "make chart" installs below root, the folder of the repository, or
// else of the helm in PATH. Without either, Helm skips the test. In CI it ends the test with an error instead.
func Helm(t testing.TB, root string) string {
	t.Helper()
	pinned, err := filepath.Glob(filepath.Join(root, ".tools/helm-v*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(pinned, "helm") {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	SkipOutsideCI(t, "helm is missing: make chart installs it")
	return ""
}
