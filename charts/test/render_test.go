// Package chart_test renders the charts by helm and checks the manifests by Kubernetes' own types.
package chart_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/tallygate/tallygate/internal/gatetest"
)

const chart = "../tallygate"

// values returns the files with values for which the chart is rendered.
func values(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no values", err)
	}
	return files
}

// kubernetes returns the version whose types go.mod requires: k8s.io/api v0.37.2 belongs to Kubernetes 1.37.2.
func kubernetes(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)^\tk8s.io/api v0(\S+)$`).FindSubmatch(content)
	if required == nil {
		t.Fatal("go.mod does not require k8s.io/api")
	}
	return "1" + string(required[1])
}

// template runs helm template, and returns the manifests or what helm says against it.
func template(t *testing.T, chart string, args ...string) (string, string) {
	t.Helper()
	var out, words bytes.Buffer
	command := exec.CommandContext(t.Context(), gatetest.Helm(t, "../.."), append([]string{"template", "r", chart, "--kube-version", kubernetes(t)}, args...)...)
	command.Stdout, command.Stderr = &out, &words
	if err := command.Run(); err != nil {
		return "", cmp.Or(words.String(), err.Error())
	}
	return out.String(), ""
}

// render is template for what must succeed, decoded.
func render(t *testing.T, chart string, args ...string) manifests {
	t.Helper()
	out, fault := template(t, chart, args...)
	if fault != "" {
		t.Fatal(fault)
	}
	return decode(t, out)
}

// manifests are the objects of a release, by kind and name.
type manifests map[string]any

// decode reads each document as the type that its kind has in the API it names; an unknown or a
// repeated field is an error.
func decode(t *testing.T, text string) manifests {
	t.Helper()
	all := manifests{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(strings.TrimPrefix(document, "---")) == "" {
			continue
		}
		var about struct {
			APIVersion, Kind string
			Metadata         struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(document), &about); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		object, known := map[string]any{
			"apps/v1 Deployment":                      &apps.Deployment{},
			"autoscaling/v2 HorizontalPodAutoscaler":  &autoscaling.HorizontalPodAutoscaler{},
			"cert-manager.io/v1 Certificate":          &certmanager.Certificate{},
			"monitoring.coreos.com/v1 PodMonitor":     &monitoring.PodMonitor{},
			"monitoring.coreos.com/v1 PrometheusRule": &monitoring.PrometheusRule{},
			"monitoring.coreos.com/v1 ServiceMonitor": &monitoring.ServiceMonitor{},
			"networking.k8s.io/v1 NetworkPolicy":      &networking.NetworkPolicy{},
			"policy/v1 PodDisruptionBudget":           &policy.PodDisruptionBudget{},
			"v1 ConfigMap":                            &core.ConfigMap{},
			"v1 Pod":                                  &core.Pod{},
			"v1 PersistentVolumeClaim":                &core.PersistentVolumeClaim{},
			"v1 Service":                              &core.Service{},
			"v1 ServiceAccount":                       &core.ServiceAccount{},
		}[about.APIVersion+" "+about.Kind]
		if !known {
			t.Fatalf("a %s %s:\n%s", about.APIVersion, about.Kind, document)
		}
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Fatalf("%s %s: %v", about.Kind, about.Metadata.Name, err)
		}
		id := about.Kind + "/" + about.Metadata.Name
		if _, twice := all[id]; twice {
			t.Fatalf("%s is there twice", id)
		}
		all[id] = object
	}
	return all
}

// get returns the object of a kind and name, which must be there.
func get[T any](t *testing.T, all manifests, id string) T {
	t.Helper()
	object, ok := all[id].(T)
	if !ok {
		t.Fatalf("no %s among %s", id, all.names())
	}
	return object
}

func (m manifests) names() string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// text returns v as JSON, to be compared with the wanted JSON.
func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
