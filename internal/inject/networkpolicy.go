package inject

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// addNetworkPolicy adds a NetworkPolicy behind the workload that closes all ports of its pods but the
// gate's. It selects the pods by the workload's own labels: pods without the gate, of a manifest that
// was applied without inject, are closed too.
func (w *workload) addNetworkPolicy() {
	selector, ok := w.selector()
	if !ok {
		return
	}
	policy := w.policy(selector)
	w.say("NetworkPolicy/%s opens port %d%s and closes all others", policyName(w.name), w.options.Port, w.metricsWords())
	if w.list != nil {
		i := slices.Index(w.list.Content, w.node)
		if i < 0 {
			w.fault(w.object, w.node, "an alias as an item of a List: write the object out")
			return
		}
		w.check(w.object, w.AppendAfter(w.list, i, policy))
		return
	}
	if w.node.Style&yaml.FlowStyle != 0 {
		w.fault(w.object, w.node, "a NetworkPolicy cannot follow one JSON object: give YAML or a List, or use --network-policy=false")
		return
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	w.check(w.object, encoder.Encode(policy))
	w.after = append(w.after, b.String())
}

func policyName(workload string) string { return workload + "-tallygate" }

func (w *workload) metricsWords() string {
	if len(w.options.MetricsFrom) == 0 {
		return ""
	}
	return fmt.Sprintf(", %d for namespace %s,", adminPort, list(w.options.MetricsFrom))
}

// selector returns the labels that select the workload's pods and no other pods.
func (w *workload) selector() (*yaml.Node, bool) {
	spec := value(w.node, "spec")
	if own := value(spec, "selector"); own != nil && w.group() == "apps" {
		return w.copied(own, 2)
	}
	labels := value(value(w.template, "metadata"), "labels")
	if labels == nil || len(labels.Content) == 0 {
		w.fault(w.object, w.template, "the pod has no labels by which a NetworkPolicy could select it: add a label, or use --network-policy=false")
		return nil, false
	}
	copied, ok := w.copied(labels, 1)
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{yamledit.Scalar("matchLabels"), copied}}, ok
}

// copied returns a copy of n without comments, anchors and aliases. It follows aliases only in the
// first levels, so that the copy is not larger than the document.
func (w *workload) copied(n *yaml.Node, aliases int) (*yaml.Node, bool) {
	if n.Kind == yaml.AliasNode && aliases > 0 {
		n = n.Alias
	}
	if n.Kind == yaml.AliasNode {
		w.fault(w.object, n, "an alias in the labels that select the pods: write the value out")
		return nil, false
	}
	c := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: n.Style &^ yaml.FlowStyle}
	for _, inside := range n.Content {
		v, ok := w.copied(inside, aliases-1)
		if !ok {
			return nil, false
		}
		c.Content = append(c.Content, v)
	}
	return c, true
}

const policyText = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: ""
  namespace: ""
  labels:
    app.kubernetes.io/managed-by: tallygate-inject
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
    - ports:
        - {port: 0, protocol: TCP}
`

func (w *workload) policy(selector *yaml.Node) *yaml.Node {
	p := parsed(policyText)
	metadata, spec := value(p, "metadata"), value(p, "spec")
	setKey(metadata, "name", yamledit.Scalar(policyName(w.name)))
	if w.namespace != "" {
		setKey(metadata, "namespace", yamledit.Scalar(w.namespace))
	} else {
		metadata.Content = slices.Delete(metadata.Content, 2, 4)
	}
	setKey(spec, "podSelector", selector)
	rules := value(spec, "ingress")
	setKey(items(items(spec, "ingress")[0], "ports")[0], "port", number(w.options.Port))
	if len(w.options.MetricsFrom) == 0 {
		return p
	}
	var from string
	for _, namespace := range w.options.MetricsFrom {
		from += "\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: " + strconv.Quote(namespace) + "}}"
	}
	rules.Content = append(rules.Content, items(parsed(fmt.Sprintf("ingress:\n- ports:\n    - {port: %d, protocol: TCP}\n  from:%s\n", adminPort, from)), "ingress")[0])
	return p
}

// otherPolicies warns of NetworkPolicies that open ports of injected pods: a policy cannot forbid what
// another policy allows. It refuses a workload if the name of its NetworkPolicy is taken.
func (s *set) otherPolicies() {
	if !s.options.NetworkPolicy {
		return
	}
	injected := s.injected()
	first := map[[2]string]*object{}
	for _, target := range injected {
		name := [2]string{target.namespace, target.name}
		if o := first[name]; o != nil {
			s.nameTaken(o, target)
		} else {
			first[name] = target
		}
	}
	for _, o := range s.objects {
		if o.kind != "NetworkPolicy" || len(injected) == 0 || !s.checkKeys(o, o.node) {
			continue
		}
		for _, target := range injected {
			if o.namespace == target.namespace && o.name == policyName(target.name) {
				s.nameTaken(o, target)
			}
			if o.mayShareNamespace(target) && o.opensPodsOf(target) {
				o.say("warning: it also selects the pods of %s: the ports that it opens stay open, past the gate", target.id())
			}
		}
	}
}

func (s *set) nameTaken(o, target *object) {
	s.fault(o, o.node, "the name of NetworkPolicy/%s, which inject adds for %s, is taken: rename one of the two, or use --network-policy=false", policyName(target.name), target.id())
}

// opensPodsOf reports whether o, a NetworkPolicy, may allow traffic to the pods of target.
func (o *object) opensPodsOf(target *object) bool {
	spec := value(o.node, "spec")
	labels := stringMap(value(value(spec, "podSelector"), "matchLabels"))
	return len(items(spec, "ingress")) > 0 && (len(labels) == 0 || selects(labels, target))
}
