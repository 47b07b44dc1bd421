package inject

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// A workload is an object with a pod template, while it is injected.
type workload struct {
	*set
	*object
	options    Options    // with the object's own annotations
	template   *yaml.Node // or the Pod itself
	pod        *yaml.Node // the pod's spec
	containers []*yaml.Node
	others     []*yaml.Node // init containers
	journal    journal
	probes     []string // values of serve --application-probe
}

// injectObject adds the gate to o if o is a workload.
func (s *set) injectObject(o *object) {
	template := o.template()
	if template == nil {
		if o.looksLikeWorkload() {
			o.say("unchanged: inject does not know this kind; add the sidecar by hand or by the chart's templates")
		}
		return
	}
	if stillInjected(template) || !s.checkKeys(o, o.node) {
		return
	}
	w := &workload{set: s, object: o, options: *s.options, template: template, pod: value(template, "spec")}
	if w.disabled() {
		done := "unchanged"
		if s.guarded[o.key()] {
			done = "the gate and its NetworkPolicy are removed"
		}
		o.say("%s: %s is disabled", done, annotationInject)
		return
	}
	before := len(s.faults)
	if !w.examine() {
		return
	}
	w.refuse()
	w.findApplication()
	if len(s.faults) > before {
		return
	}
	w.warn()
	w.change()
}

// annotation returns an annotation of the template or else of the object.
func (w *workload) annotation(key string) string {
	for _, n := range []*yaml.Node{w.template, w.node} {
		if v := text(value(value(n, "metadata"), "annotations"), key); v != "" {
			return v
		}
	}
	return ""
}

func (w *workload) disabled() bool {
	v := w.annotation(annotationInject)
	return v == "disabled" || v == "false"
}

// examine reads the parts of the workload, and reports whether they have the expected form.
func (w *workload) examine() bool {
	if w.name == "" {
		w.fault(w.object, w.node, "metadata.name is missing")
		return false
	}
	if w.pod == nil || w.pod.Kind != yaml.MappingNode {
		w.fault(w.object, w.node, "the pod's spec is missing")
		return false
	}
	w.containers, w.others = items(w.pod, "containers"), items(w.pod, "initContainers")
	if len(w.containers) == 0 {
		w.fault(w.object, w.pod, "the pod has no list of containers")
		return false
	}
	for _, c := range w.all() {
		if text(c, "name") == "" {
			w.fault(w.object, c, "a container without a name")
			return false
		}
	}
	o := &w.options
	if v := w.annotation(annotationContainer); v != "" {
		o.AppContainer = v
	}
	if v := w.annotation(annotationPort); v != "" {
		port, err := strconv.Atoi(v)
		if err != nil || port < 1 || port > 65535 {
			w.fault(w.object, w.template, "the annotation %s: %q is no port number", annotationPort, v)
			return false
		}
		o.AppPort = port
	}
	return true
}

func (w *workload) all() []*yaml.Node {
	return append(w.others[:len(w.others):len(w.others)], w.containers...)
}

// A port is an entry in the ports of a container.
type port struct {
	node           *yaml.Node
	container      *yaml.Node
	number         int
	name, protocol string
}

// ports returns the ports of containers.
func ports(containers ...*yaml.Node) []port {
	var all []port
	for _, c := range containers {
		for _, n := range items(c, "ports") {
			number, _ := integer(text(n, "containerPort"))
			protocol := text(n, "protocol")
			if protocol == "" {
				protocol = "TCP"
			}
			all = append(all, port{n, c, number, text(n, "name"), protocol})
		}
	}
	return all
}

// findApplication finds the application's container and port.
func (w *workload) findApplication() {
	o := &w.options
	var candidates []*yaml.Node
	for _, c := range w.containers {
		if o.AppContainer == "" || text(c, "name") == o.AppContainer {
			candidates = append(candidates, c)
		}
	}
	if len(candidates) == 0 {
		w.fault(w.object, w.pod, "there is no container %q: name the application's container with --app-container", o.AppContainer)
		return
	}
	var listening []port
	for _, p := range ports(candidates...) {
		if p.protocol == "TCP" && (o.AppPort == 0 || p.number == o.AppPort) {
			listening = append(listening, p)
		}
	}
	switch {
	case len(listening) == 1:
		w.app, w.appPort = listening[0].container, listening[0].number
	case o.AppPort == 0 && len(listening) == 0:
		w.fault(w.object, candidates[0], "no container names a TCP port: say with --app-port where the application listens, or with the annotation %s", annotationPort)
	case o.AppPort == 0:
		w.fault(w.object, listening[1].node, "the containers name %d TCP ports: say with --app-port where the application listens, or with the annotation %s", len(listening), annotationPort)
	case len(candidates) == 1:
		w.app, w.appPort = candidates[0], o.AppPort
	default:
		w.fault(w.object, candidates[0], "no single container names port %d: name the application's container with --app-container, or with the annotation %s", o.AppPort, annotationContainer)
	}
	if w.appPort == o.Port || w.appPort == adminPort {
		w.fault(w.object, w.app, "the application and the gate cannot both listen on port %d: move the application to another port%s", w.appPort, w.movable(w.appPort))
	}
}

// movable returns, for an error about a port that the gate needs, the advice to move the gate if the gate can
// move.
func (w *workload) movable(number int) string {
	if number == w.options.Port {
		return ", or the gate with --port and listener.address"
	}
	return ""
}

// change makes the edits of the workload.
func (w *workload) change() {
	name := text(w.app, "name")
	w.forwardProbes()
	w.bindToLoopback()
	w.sleepBeforeStop()
	w.extendGracePeriod()
	w.addContainer()
	w.addVolumes()
	where := "a classic container"
	if w.options.Native {
		where = "a native sidecar"
	}
	w.report = append([]string{fmt.Sprintf("injected as %s before port %d of container %s, with ConfigMap/%s and Secret/%s", where, w.appPort, name,
		w.options.configMap(w.name), w.options.tlsSecret(w.name))}, w.report...)
	if w.options.NetworkPolicy {
		w.addNetworkPolicy()
	}
	w.check(w.object, w.journal.write(w.object, w.template))
	w.labels = stringMap(value(value(w.template, "metadata"), "labels"))
}

// addTo adds an item to the list with this key in the pod, and records how uninject removes it. name is
// the item's name in the path.
func (w *workload) addTo(m *yaml.Node, path, key string, added ...*yaml.Node) {
	_, existing := yamledit.Get(m, key)
	if existing == nil {
		w.check(w.object, w.Add(m, key, &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: added}))
	}
	for _, item := range added {
		if existing != nil {
			w.check(w.object, w.Append(existing, item))
		}
		name := item.Value
		if item.Kind == yaml.MappingNode {
			name = text(item, "name")
		}
		w.journal.Undo = append(w.journal.Undo, step{Remove: join(path, key, name), Keep: existing != nil})
	}
}

// podPath is the path of the pod's spec below the pod template.
const podPath = "/spec"

func (w *workload) containerPath(c *yaml.Node) string {
	key := "containers"
	for _, other := range w.others {
		if other == c {
			key = "initContainers"
		}
	}
	return join(podPath, key, text(c, "name"))
}

func (w *workload) addContainer() {
	key := "containers"
	if w.options.Native {
		key = "initContainers"
	}
	w.addTo(w.pod, podPath, key, gateContainer(&w.options, w.probes))
}

func (w *workload) addVolumes() {
	w.addTo(w.pod, podPath, "volumes", gateVolumes(&w.options, w.name, w.hasGroup())...)
}

// hasGroup reports whether the pod has a group that all its containers are in.
func (w *workload) hasGroup() bool { return text(value(w.pod, "securityContext"), "fsGroup") != "" }

// toUndo records the step by which uninject restores a node.
func (w *workload) toUndo(s step) { w.journal.Undo = append(w.journal.Undo, s) }

// source returns the text of n; an alias has no text of its own, and cannot be replaced anyway.
func (w *workload) source(n *yaml.Node) string { return strings.TrimSuffix(w.Source(n), "\n") }
