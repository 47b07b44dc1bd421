// Package kubernetes_test decodes the rendered chart by the types of two further versions of Kubernetes: go.mod
// has those of the oldest version that the chart supports, and 1.34.mod has the types of a version between the
// oldest version and the version of charts/test:
//
//	GOFLAGS=-modfile=1.34.mod go test .
package kubernetes_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/tallygate/tallygate/internal/gatetest"
)

const chart = "../../tallygate"

// version returns the Kubernetes version of the types: k8s.io/api v0.34.13 belongs to Kubernetes 1.34.13. A test
// does not know its modules, so it reads the file that the go command read.
func version(t *testing.T) string {
	t.Helper()
	file := "go.mod"
	if named := regexp.MustCompile(`-modfile=(\S+)`).FindStringSubmatch(os.Getenv("GOFLAGS")); named != nil {
		file = named[1]
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)^\tk8s.io/api v0(\S+)$`).FindSubmatch(content)
	if required == nil {
		t.Fatalf("%s does not require k8s.io/api", file)
	}
	return "1" + string(required[1])
}

// TestManifests: every object that the chart makes for this version is an object of this version's API,
// without unknown or repeated fields. charts/test decodes the kinds that are not Kubernetes' own.
func TestManifests(t *testing.T) {
	version, helm := version(t), gatetest.Helm(t, "../../..")
	t.Log("Kubernetes", version)
	files, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no values", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var words bytes.Buffer
			command := exec.CommandContext(t.Context(), helm, "template", "r", chart, "--values", file, "--kube-version", version)
			command.Stderr = &words
			out, err := command.Output()
			if err != nil {
				t.Fatal(err, words.String())
			}
			decoded := 0
			for document := range strings.SplitSeq(string(out), "\n---\n") {
				if decode(t, document) {
					decoded++
				}
			}
			if decoded < 2 { // a sidecar's release has a ConfigMap and a NetworkPolicy
				t.Errorf("%d objects of Kubernetes' own kinds, want at least 2", decoded)
			}
		})
	}
}

// decode reports whether the document is of a kind of Kubernetes.
func decode(t *testing.T, document string) bool {
	t.Helper()
	var about struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal([]byte(document), &about); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	kind := about.APIVersion + " " + about.Kind
	object, known := map[string]any{
		"apps/v1 Deployment":                     &apps.Deployment{},
		"autoscaling/v2 HorizontalPodAutoscaler": &autoscaling.HorizontalPodAutoscaler{},
		"networking.k8s.io/v1 NetworkPolicy":     &networking.NetworkPolicy{},
		"policy/v1 PodDisruptionBudget":          &policy.PodDisruptionBudget{},
		"v1 ConfigMap":                           &core.ConfigMap{},
		"v1 Pod":                                 &core.Pod{},
		"v1 PersistentVolumeClaim":               &core.PersistentVolumeClaim{},
		"v1 Service":                             &core.Service{},
		"v1 ServiceAccount":                      &core.ServiceAccount{},
	}[kind]
	switch {
	case about.Kind == "", strings.HasPrefix(kind, "monitoring.coreos.com/"), strings.HasPrefix(kind, "cert-manager.io/"):
		return false
	case !known:
		t.Errorf("the kind %s is unknown to the test", kind)
		return false
	}
	if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
		t.Errorf("%s: %v\n%s", kind, err, document)
	}
	return true
}
