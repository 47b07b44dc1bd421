package inject

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// services directs the Services of injected workloads to the gate, or reports that they lead past the gate.
func (s *set) services() {
	injected := s.injected()
	for _, o := range s.objects {
		if o.kind != "Service" || o.version != "v1" {
			continue
		}
		selector := stringMap(value(value(o.node, "spec"), "selector"))
		var targets, uncertain []*object
		for _, target := range injected {
			switch {
			case !selects(selector, target):
			case o.namespace == target.namespace:
				targets = append(targets, target)
			case o.mayShareNamespace(target):
				uncertain = append(uncertain, target)
			}
		}
		targets = append(targets, uncertain...)
		if len(targets) > 0 && !stillInjected(o.node) {
			s.service(o, targets)
		}
	}
}

// mayShareNamespace reports whether o and target may be in the same namespace. kubectl --namespace may apply an object
// without a namespace to any namespace.
func (o *object) mayShareNamespace(target *object) bool {
	return o.namespace == target.namespace || o.namespace == "" || target.namespace == ""
}

// injected returns the workloads that have got the gate.
func (s *set) injected() []*object {
	return slices.DeleteFunc(slices.Clone(s.objects), func(o *object) bool { return o.labels == nil })
}

// selects reports whether a selector of these labels selects the pods of the injected workload target.
func selects(labels map[string]string, target *object) bool {
	for key, v := range labels {
		if got, ok := target.labels[key]; !ok || got != v {
			return false
		}
	}
	return len(labels) > 0
}

// service directs the ports of o that lead to the application's port of a target to the gate. It writes
// the number, because Kubernetes before 1.33 finds the ports of native sidecars by number only. If only one of o and the
// target has a namespace, service only warns: in another namespace the selector may select pods without the gate, which
// would get requests on a port that they do not have.
func (s *set) service(o *object, targets []*object) {
	if !s.checkKeys(o, o.node) {
		return
	}
	w := &workload{set: s, object: o}
	for i, p := range items(value(o.node, "spec"), "ports") {
		number := text(p, "port")
		_, raw := yamledit.Get(p, "targetPort")
		to := number
		if raw != nil {
			to = resolve(raw).Value
		}
		found := slices.IndexFunc(targets, func(target *object) bool { return w.resolvePort(to, target.app) == target.appPort })
		if found < 0 || number == "" {
			continue
		}
		target := targets[found]
		if o.namespace != target.namespace {
			o.say("warning: port %s leads to port %d of %s, past the gate, if both are applied to the same namespace: give both their namespace", number, target.appPort, target.id())
			continue
		}
		if !s.options.Service {
			o.say("warning: port %s leads to port %d of %s, past the gate: --service directs it to the gate", number, target.appPort, target.id())
			continue
		}
		s.retarget(w, i, p, raw)
		o.say("port %s leads to the gate of %s, port %d instead of %s", number, target.id(), s.options.Port, to)
	}
	if len(w.journal.Undo) > 0 {
		s.check(o, w.journal.write(o, o.node))
	}
}

// retarget sets the target port of entry i of the ports of a Service. raw is its former value, or nil.
func (s *set) retarget(w *workload, i int, p, raw *yaml.Node) {
	path := join("", "spec", "ports", "#"+strconv.Itoa(i), "targetPort")
	if raw == nil {
		w.toUndo(step{Remove: path})
		s.check(w.object, w.Add(p, "targetPort", number(s.options.Port)))
		return
	}
	w.toUndo(step{Restore: path, Text: w.source(raw)})
	s.check(w.object, w.Replace(raw, strconv.Itoa(s.options.Port)))
}
