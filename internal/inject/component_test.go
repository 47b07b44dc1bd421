package inject

import (
	"bytes"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestKustomizeComponent: the files of deploy/kustomize have the container, the volumes and the NetworkPolicy of
// inject. With -update the test writes them.
func TestKustomizeComponent(t *testing.T) {
	o := options(t, "--config-map tallygate --tls-secret tallygate-tls")
	o.Image = "tallygate"
	patch := parsed(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: any
spec:
  template:
    metadata:
      labels: {tallygate: sidecar}
    spec: {}
`)
	spec := value(value(value(patch, "spec"), "template"), "spec")
	spec.Style = 0
	list := func(items ...*yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items}
	}
	setKey(spec, "terminationGracePeriodSeconds", number(o.gracePeriod()))
	setKey(spec, "initContainers", list(gateContainer(o, nil)))
	setKey(spec, "volumes", list(gateVolumes(o, "", false)...))
	compareComponent(t, "sidecar.yaml", "# Written by go test ./internal/inject -update: what tallygate inject adds.\n", patch)

	w := &workload{object: &object{}, options: *o}
	policy := w.policy(parsed("matchLabels: {tallygate: sidecar}"))
	setKey(policy, "metadata", parsed("name: tallygate")) // the component has no label by which uninject finds it
	compareComponent(t, "networkpolicy.yaml", "# Written by go test ./internal/inject -update. It closes all ports of the pods but the gate's.\n", policy)
}

func compareComponent(t *testing.T, file, comment string, content *yaml.Node) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(comment)
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(content); err != nil {
		t.Fatal(err)
	}
	compare(t, "../../deploy/kustomize/"+file, b.String())
}
