package chart_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const goldens = "../../internal/inject/testdata/golden/"

// TestInjectedManifests reads every golden output of inject by the types of the Kubernetes API. An
// unknown field or a repeated field is an error.
func TestInjectedManifests(t *testing.T) {
	outputs, err := filepath.Glob(goldens + "*/output.yaml")
	if err != nil || len(outputs) < 30 {
		t.Fatalf("got %d outputs, want at least 30 (%v)", len(outputs), err)
	}
	for _, output := range outputs {
		t.Run(filepath.Base(filepath.Dir(output)), func(t *testing.T) {
			text, err := os.ReadFile(output)
			if err != nil {
				t.Fatal(err)
			}
			gates := 0
			for _, document := range documents(text) {
				gates += checkInjected(t, document)
			}
			if gates == 0 {
				t.Error("no gate in any object")
			}
		})
	}
}

// documents returns the documents of text, and the items of Lists.
func documents(text []byte) [][]byte {
	for _, noise := range []string{"\ufeff", "\r", "%YAML 1.1\n"} { // kubectl skips this text
		text = bytes.ReplaceAll(text, []byte(noise), nil)
	}
	var all [][]byte
	for document := range bytes.SplitSeq(append([]byte("\n"), text...), []byte("\n---")) {
		var list struct {
			Kind  string
			Items []map[string]any
		}
		err := yaml.Unmarshal(document, &list)
		itemKind, isList := strings.CutSuffix(list.Kind, "List")
		if err != nil || !isList {
			all = append(all, document)
			continue
		}
		for _, item := range list.Items {
			if itemKind != "" {
				item["kind"] = itemKind
			}
			marshaled, err := yaml.Marshal(item)
			if err == nil {
				all = append(all, marshaled)
			}
		}
	}
	return all
}

// checkInjected decodes document strictly, and returns how many gates it has.
func checkInjected(t *testing.T, document []byte) int {
	t.Helper()
	if bytes.Contains(document, []byte("x-unknown")) { // this case tests that unknown fields stay
		document = bytes.ReplaceAll(document, []byte("  x-unknown: {kept: [as, it, is]}\n"), nil)
	}
	var about struct{ Kind string }
	if err := yaml.Unmarshal(document, &about); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	var spec *core.PodSpec
	read := func(object any, pod *core.PodSpec) {
		if err := yaml.UnmarshalStrict(document, object); err != nil {
			t.Errorf("%s: %v", about.Kind, err)
		}
		spec = pod
	}
	switch about.Kind {
	case "Deployment":
		d := &apps.Deployment{}
		read(d, &d.Spec.Template.Spec)
	case "StatefulSet":
		d := &apps.StatefulSet{}
		read(d, &d.Spec.Template.Spec)
	case "DaemonSet":
		d := &apps.DaemonSet{}
		read(d, &d.Spec.Template.Spec)
	case "ReplicaSet":
		d := &apps.ReplicaSet{}
		read(d, &d.Spec.Template.Spec)
	case "Job":
		d := &batch.Job{}
		read(d, &d.Spec.Template.Spec)
	case "CronJob":
		d := &batch.CronJob{}
		read(d, &d.Spec.JobTemplate.Spec.Template.Spec)
	case "Pod":
		d := &core.Pod{}
		read(d, &d.Spec)
	case "NetworkPolicy":
		d := &networking.NetworkPolicy{}
		read(d, nil)
		if d.Labels["app.kubernetes.io/managed-by"] == "tallygate-inject" && len(d.Spec.PodSelector.MatchLabels) == 0 {
			t.Errorf("NetworkPolicy %s selects every pod", d.Name)
		}
	case "Service":
		read(&core.Service{}, nil)
	}
	if spec == nil {
		return 0
	}
	return checkGates(t, spec)
}

// checkGates: the gate mounts volumes of the pod, and no other container mounts the gate's.
func checkGates(t *testing.T, spec *core.PodSpec) (gates int) {
	t.Helper()
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(m.Name, "tallygate-") != (c.Name == "tallygate") || !volumes[m.Name] {
				t.Errorf("container %s mounts %s", c.Name, m.Name)
			}
		}
		if c.Name == "tallygate" {
			gates++
		}
	}
	return gates
}

// TestInjectedContainer: inject adds to a pod the parts that the chart's templates render, so that both
// have the same container, volumes, preStop hooks and grace period.
func TestInjectedContainer(t *testing.T) {
	accounts := withSidecar(t)
	for golden, native := range map[string]string{"chart": "true", "chart-classic": "false"} {
		t.Run(golden, func(t *testing.T) {
			got := partsOf(podSpec(t, goldens+golden+"/output.yaml"))
			want := partsOf(podOf(t, render(t, accounts, "--set", "tallygate.sidecar.native="+native)).Spec)
			if a, b := text(t, got), text(t, want); a != b {
				t.Errorf("inject adds\n%s\nthe chart renders\n%s", a, b)
			}
		})
	}
}

func podSpec(t *testing.T, file string) core.PodSpec {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var deployment apps.Deployment
	if err := yaml.Unmarshal(documents(content)[0], &deployment); err != nil {
		t.Fatal(err)
	}
	return deployment.Spec.Template.Spec
}

// podParts are the parts of a pod that a sidecar needs.
type podParts struct {
	Gate        core.Container
	AppHooks    *core.Lifecycle
	Volumes     []core.Volume
	GracePeriod *int64
}

func partsOf(spec core.PodSpec) podParts {
	parts := podParts{GracePeriod: spec.TerminationGracePeriodSeconds, AppHooks: spec.Containers[0].Lifecycle}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.Name == "tallygate" {
			parts.Gate = c
		}
	}
	for _, v := range spec.Volumes {
		if strings.HasPrefix(v.Name, "tallygate-") {
			parts.Volumes = append(parts.Volumes, v)
		}
	}
	return parts
}
