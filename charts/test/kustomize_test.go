package chart_test

import (
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestKustomizeComponent renders a kustomization with the component of deploy/kustomize. Labelled workloads get
// the gate, and other workloads do not.
func TestKustomizeComponent(t *testing.T) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "testdata/kustomize")
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	all := decode(t, string(rendered))
	accounts := get[*apps.Deployment](t, all, "Deployment/test-accounts")
	pod := gatePod{PodTemplateSpec: accounts.Spec.Template}
	if names := namesOf(pod.Spec.InitContainers); len(names) != 2 || len(pod.Spec.Containers) != 1 || checkGates(t, &pod.Spec) != 1 {
		t.Fatalf("got the init containers %v and %d containers, want migrate, tallygate and 1", names, len(pod.Spec.Containers))
	}
	for _, c := range pod.Spec.InitContainers {
		if c.Name == "tallygate" {
			pod.gate = c
		}
	}
	checkProbes(t, pod.gate)
	if pod.gate.Image != "registry.example/tallygate:1" {
		t.Errorf("the image is %s, want that of images", pod.gate.Image)
	}
	if policy := pod.gate.RestartPolicy; policy == nil || *policy != core.ContainerRestartPolicyAlways {
		t.Error("the gate is no native sidecar")
	}
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			get[*core.ConfigMap](t, all, "ConfigMap/"+v.ConfigMap.Name) // the generated name, with prefix and hash
		}
	}
	policy := get[*networking.NetworkPolicy](t, all, "NetworkPolicy/test-tallygate")
	for key, value := range policy.Spec.PodSelector.MatchLabels {
		if pod.Labels[key] != value {
			t.Errorf("the policy selects %s=%s, the pod has %v", key, value, pod.Labels)
		}
	}
	checkPolicy(t, policy, portsOf(t, pod.gate))
	other := get[*apps.Deployment](t, all, "Deployment/test-other").Spec.Template
	if len(other.Spec.InitContainers) > 0 || other.Labels["tallygate"] != "" {
		t.Errorf("a workload without the label is changed: %s", text(t, other))
	}
}

func namesOf(containers []core.Container) (names []string) {
	for _, c := range containers {
		names = append(names, c.Name)
	}
	return names
}
