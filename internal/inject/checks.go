package inject

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/yamledit"
)

// refuse records what makes a pod unfit for the gate, or leaves a way around the gate.
func (w *workload) refuse() {
	if key, _ := yamledit.Get(w.pod, "hostNetwork"); isTrue(w.pod, "hostNetwork") {
		w.fault(w.object, key, "hostNetwork: the pod shares the node's ports, and no NetworkPolicy holds for it: remove hostNetwork")
	}
	if at := w.windows(); at != nil {
		w.fault(w.object, at, "the pod is for Windows nodes, and the gate is for Linux: run the gate as a gateway of its own (charts/tallygate, mode: gateway)")
	}
	if w.kind == "Job" || w.kind == "CronJob" {
		if !w.options.Native {
			w.fault(w.object, w.node, "a Job does not end while a classic container runs: use --native=true")
		}
	}
	w.refuseNames()
	w.refusePorts()
}

// windows returns the node of the manifest that selects Windows nodes, or nil.
func (w *workload) windows() *yaml.Node {
	if os := value(value(w.pod, "os"), "name"); os != nil && os.Value == "windows" {
		return os
	}
	selector := value(w.pod, "nodeSelector")
	for _, label := range []string{"kubernetes.io/os", "beta.kubernetes.io/os"} {
		if v := value(selector, label); v != nil && v.Value == "windows" {
			return v
		}
	}
	return nil
}

// refuseNames refuses names that the gate needs, and containers with one name.
func (w *workload) refuseNames() {
	seen := map[string]bool{}
	for _, c := range w.all() {
		switch name := text(c, "name"); {
		case name == gateName:
			w.fault(w.object, c, "there is a container %q that inject has not added: remove or rename it", name)
		case seen[name]:
			w.fault(w.object, c, "there are two containers %q: rename one", name)
		default:
			seen[name] = true
		}
	}
	w.refuseVolumes()
}

// refuseVolumes refuses volumes with the names of the gate's volumes, claims that would take the place of such a volume in
// the pods of a StatefulSet, and mounts by which another container would get the gate's keys.
func (w *workload) refuseVolumes() {
	own := []string{"tallygate-config", "tallygate-tls"}
	for _, m := range w.options.Mounts {
		own = append(own, filesVolume(m))
	}
	refuse := func(n, named *yaml.Node, what string) {
		if name := text(named, "name"); slices.Contains(own, name) {
			w.fault(w.object, n, "there is a %s %q that inject has not added: remove or rename it", what, name)
		}
	}
	for _, v := range items(w.pod, "volumes") {
		refuse(v, v, "volume")
	}
	for _, claim := range items(value(w.node, "spec"), "volumeClaimTemplates") {
		refuse(claim, value(claim, "metadata"), "volumeClaimTemplate")
	}
	for _, c := range w.all() {
		for _, mount := range append(items(c, "volumeMounts"), items(c, "volumeDevices")...) {
			refuse(mount, mount, "mount of a volume")
		}
	}
}

// refusePorts refuses ports that the gate needs, and ports of the node that lead past it.
func (w *workload) refusePorts() {
	for _, p := range ports(w.all()...) {
		container := text(p.container, "name")
		if p.number < 1 || p.number > 65535 {
			w.fault(w.object, p.node, "container %s has a port without a number from 1 to 65535", container)
		}
		if host := text(p.node, "hostPort"); host != "" && host != "0" {
			w.fault(w.object, p.node, "hostPort %s of container %s leads past the gate: remove hostPort, and publish the gate's port by a Service", host, container)
		}
		if p.protocol == "TCP" && (p.number == w.options.Port || p.number == adminPort) && !w.isOnlyPort(p) {
			w.fault(w.object, p.node, "container %s names port %d, which the gate listens on: move it to another port%s", container, p.number, w.movable(p.number))
		}
	}
}

// isOnlyPort reports whether findApplication takes p as the application's port.
func (w *workload) isOnlyPort(p port) bool {
	return w.options.AppPort == p.number || w.options.AppPort == 0 && len(ports(w.containers...)) == 1 && p.container == w.containers[0]
}

// warn reports settings that work but are seldom intended.
func (w *workload) warn() {
	for key, meaning := range map[string]string{
		"hostPID":               "every process of the node is visible in the pod, and the pod's processes can read the gate's keys if they run as root",
		"shareProcessNamespace": "the pod's containers see each other's processes, those that run as root or as user 65532 can read the gate's keys, and the gate's preStop, which sends a signal to process 1, does not drain it",
	} {
		if isTrue(w.pod, key) {
			w.say("warning: %s: %s", key, meaning)
		}
	}
	slices.Sort(w.report)
	if text(w.pod, "automountServiceAccountToken") == "" || isTrue(w.pod, "automountServiceAccountToken") {
		w.say("note: the pod's service account token is mounted in all containers; the gate needs none: automountServiceAccountToken: false")
	}
	if !w.hasGroup() {
		w.say("note: the pod has no securityContext.fsGroup, so all users of the gate's container may read its files, and the gate warns of that")
	}
	var closed []string
	for _, p := range ports(w.all()...) {
		if p.number == w.appPort && p.protocol == "TCP" {
			continue
		}
		if p.protocol != "TCP" {
			w.say("warning: port %d/%s does not pass the gate%s", p.number, p.protocol, map[bool]string{true: ", and the NetworkPolicy closes it"}[w.options.NetworkPolicy])
		} else {
			closed = append(closed, fmt.Sprint(p.number))
		}
	}
	if len(closed) > 0 && w.options.NetworkPolicy {
		w.say("note: the NetworkPolicy also closes port %s: open it by a NetworkPolicy of its own if others need it", strings.Join(closed, ", "))
	}
}
