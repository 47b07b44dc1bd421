package chart_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
)

// drainSeconds is how long the gate lets requests finish; cmd/tallygate's TestChart holds
// the chart to it.
const drainSeconds = 25

// A gatePod is a pod with the gate in it, and the gate's own container.
type gatePod struct {
	core.PodTemplateSpec
	gate core.Container
}

// podOf returns the pod of a release with one Deployment. Only the gate may mount the gate's
// volumes.
func podOf(t *testing.T, all manifests) gatePod {
	t.Helper()
	var pod gatePod
	for _, object := range all {
		deployment, is := object.(*apps.Deployment)
		if !is {
			continue
		}
		pod.PodTemplateSpec = deployment.Spec.Template
		for key, value := range deployment.Spec.Selector.MatchLabels {
			if pod.Labels[key] != value {
				t.Errorf("the Deployment selects %s=%s, the pod has %v", key, value, pod.Labels)
			}
		}
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name == "tallygate" {
			pod.gate = c
			continue
		}
		for _, mount := range c.VolumeMounts {
			if strings.HasPrefix(mount.Name, "tallygate-") {
				t.Errorf("%s mounts %s", c.Name, mount.Name)
			}
		}
	}
	if pod.gate.Name == "" {
		t.Fatal("no gate in ", all.names())
	}
	return pod
}

// TestPods holds the gate's container and volumes, in every form of the chart, to what
// makes it hard to break, and able to start, stop and reload.
func TestPods(t *testing.T) {
	for name, all := range releases(t) {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, all)
			checkHardened(t, pod)
			checkProbes(t, pod.gate)
			checkVolumes(t, all, pod)
			if got, want := text(t, pod.gate.Args), `["serve","--config","/etc/tallygate/config/tallygate.yaml"]`; got != want {
				t.Errorf("args are %s", got)
			}
			// Nine tenths of its cgroup's limit, which the gate takes by itself, leave room for
			// what Go does not count. The whole limit, by GOMEMLIMIT, would not.
			if got := text(t, pod.gate.Env); strings.Contains(got, "GOMEMLIMIT") || pod.gate.Resources.Limits.Memory().IsZero() {
				t.Errorf("env is %s, limits are %s", got, text(t, pod.gate.Resources.Limits))
			}
			checkStop(t, pod)
		})
	}
}

// checkStop holds the hooks and the grace period to the time that a stop takes. A native sidecar drains in its hook, since
// its SIGTERM comes when the API has ended; the API goes on until the gate has no clients.
func checkStop(t *testing.T, pod gatePod) {
	t.Helper()
	if pod.gate.Lifecycle == nil || pod.gate.Lifecycle.PreStop == nil {
		t.Fatal("the gate has no preStop")
	}
	hook, grace := pod.gate.Lifecycle.PreStop, pod.Spec.TerminationGracePeriodSeconds
	var sleep int64
	if pod.gate.RestartPolicy != nil {
		want := fmt.Sprintf(`{"exec":{"command":["/tallygate","drain","--address","127.0.0.1:9090","--wait","%ds"]}}`, drainSeconds)
		if got := text(t, hook); got != want {
			t.Errorf("the gate's preStop is %s, want %s", got, want)
		}
	} else if hook.Sleep != nil {
		sleep = hook.Sleep.Seconds
	}
	for _, c := range pod.Spec.Containers {
		if c.Name != "tallygate" {
			least := int64(drainSeconds)
			if pod.gate.RestartPolicy != nil {
				least = 5 // drain.delay
			}
			if api := c.Lifecycle.PreStop.Sleep.Seconds; api <= least {
				t.Errorf("preStop of %s is %d s, want more than %d", c.Name, api, least)
			}
			sleep = max(sleep, c.Lifecycle.PreStop.Sleep.Seconds)
			continue
		}
		sleep += drainSeconds
	}
	if sleep == 0 || grace == nil || *grace <= sleep {
		t.Errorf("%d seconds to stop in %s of grace", sleep, text(t, grace))
	}
}

func checkHardened(t *testing.T, pod gatePod) {
	t.Helper()
	want := `{"capabilities":{"drop":["ALL"]},"privileged":false,"runAsUser":65532,"runAsGroup":65532,"runAsNonRoot":true,` +
		`"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false,"seccompProfile":{"type":"RuntimeDefault"}}`
	if got := text(t, pod.gate.SecurityContext); got != want {
		t.Errorf("the security context is %s,\nwant %s", got, want)
	}
	if mount := pod.Spec.AutomountServiceAccountToken; mount == nil || *mount {
		t.Error("a service account's token is mounted")
	}
}

func checkProbes(t *testing.T, gate core.Container) {
	t.Helper()
	for name, p := range map[string]struct {
		probe *core.Probe
		path  string
	}{
		"startup": {gate.StartupProbe, "/livez"}, "liveness": {gate.LivenessProbe, "/livez"}, "readiness": {gate.ReadinessProbe, "/readyz"},
	} {
		if p.probe == nil || p.probe.HTTPGet == nil || p.probe.HTTPGet.Path != p.path || p.probe.HTTPGet.Port.StrVal != "metrics" {
			t.Errorf("the %s probe is %s", name, text(t, p.probe))
		}
	}
	ports := portsOf(t, gate)
	if ports["metrics"] != 9090 || ports["partners"] != 8443 {
		t.Errorf("the ports are %v", ports)
	}
}

// portsOf returns the container's ports by name. Names and numbers are unique.
func portsOf(t *testing.T, c core.Container) map[string]int32 {
	t.Helper()
	ports, numbers := map[string]int32{}, map[int32]bool{}
	for _, p := range c.Ports {
		if ports[p.Name] != 0 || numbers[p.ContainerPort] {
			t.Errorf("port %s (%d) is there twice", p.Name, p.ContainerPort)
		}
		ports[p.Name], numbers[p.ContainerPort] = p.ContainerPort, true
	}
	return ports
}

func checkVolumes(t *testing.T, all manifests, pod gatePod) {
	t.Helper()
	volumes := map[string]core.Volume{}
	for _, v := range pod.Spec.Volumes {
		if _, twice := volumes[v.Name]; twice {
			t.Errorf("volume %s is there twice", v.Name)
		}
		volumes[v.Name] = v
		// With a group for the pod, other users may not read; without a group, the gate could
		// not read either.
		mode := int32(0o444)
		if context := pod.Spec.SecurityContext; context != nil && context.FSGroup != nil {
			mode = 0o440
		}
		switch {
		case v.ConfigMap != nil && *v.ConfigMap.DefaultMode == mode:
		case v.Secret != nil && *v.Secret.DefaultMode == mode:
		case v.Name == "tallygate-state" && v.PersistentVolumeClaim != nil:
			get[*core.PersistentVolumeClaim](t, all, "PersistentVolumeClaim/"+v.PersistentVolumeClaim.ClaimName)
		default:
			t.Errorf("volume %s is %s", v.Name, text(t, v))
		}
	}
	paths := map[string]bool{}
	for _, m := range pod.gate.VolumeMounts {
		if m.SubPath != "" || m.SubPathExpr != "" {
			t.Errorf("%s mounts a part of %s, which never changes", m.MountPath, m.Name)
		}
		if _, there := volumes[m.Name]; !there || paths[m.MountPath] {
			t.Errorf("nothing, or two things, at %s", m.MountPath)
		}
		if m.ReadOnly == (m.Name == "tallygate-state") {
			t.Errorf("%s: read only is %t", m.MountPath, m.ReadOnly)
		}
		paths[m.MountPath] = true
		delete(volumes, m.Name)
	}
	if len(volumes) > 0 {
		t.Errorf("volumes that the gate does not mount: %v", volumes)
	}
	config := get[*core.ConfigMap](t, all, "ConfigMap/"+pod.Spec.Volumes[0].ConfigMap.Name)
	if config.Data["tallygate.yaml"] == "" {
		t.Error("no tallygate.yaml in the ConfigMap")
	}
}

// TestSelectors holds every object that selects pods, or names their ports, to the gate's.
func TestSelectors(t *testing.T) {
	for name, all := range releases(t) {
		t.Run(name, func(t *testing.T) {
			pod := podOf(t, all)
			ports := portsOf(t, pod.gate)
			for id, object := range all {
				var selector map[string]string
				switch o := object.(type) {
				case *core.Service:
					selector = o.Spec.Selector
					checkTargets(t, o, pod, ports)
				case *policy.PodDisruptionBudget:
					selector = o.Spec.Selector.MatchLabels
				case *networking.NetworkPolicy:
					selector = o.Spec.PodSelector.MatchLabels
					checkPolicy(t, o, ports)
				case *monitoring.PodMonitor:
					selector = o.Spec.Selector.MatchLabels
					if e := o.Spec.PodMetricsEndpoints; len(e) != 1 || *e[0].Port != "metrics" || e[0].Path != "/metrics" {
						t.Errorf("%s scrapes %s", id, text(t, e))
					}
				default:
					continue
				}
				if len(selector) == 0 {
					t.Errorf("%s selects everything", id)
				}
				for key, value := range selector {
					if pod.Labels[key] != value {
						t.Errorf("%s selects %s=%s, the pod has %v", id, key, value, pod.Labels)
					}
				}
			}
		})
	}
}

// checkTargets: a Service leads to listeners, and never to the admin's. Kubernetes before
// 1.33 looks for the names of ports among a pod's containers only (kubernetes#127958).
func checkTargets(t *testing.T, service *core.Service, pod gatePod, ports map[string]int32) {
	t.Helper()
	for _, p := range service.Spec.Ports {
		number := p.TargetPort.IntVal
		if name := p.TargetPort.StrVal; name != "" {
			if len(pod.Spec.InitContainers) > 0 {
				t.Errorf("%s leads to a sidecar's port by its name, %s", service.Name, name)
			}
			number = ports[name]
		}
		if number == ports["metrics"] || !slices.Contains(slices.Collect(maps.Values(ports)), number) {
			t.Errorf("%s leads to port %s", service.Name, p.TargetPort.String())
		}
	}
}

// checkPolicy checks that every listener's port is open, the admin port only to listed peers, and no
// other port.
func checkPolicy(t *testing.T, policy *networking.NetworkPolicy, ports map[string]int32) {
	t.Helper()
	if got := text(t, policy.Spec.PolicyTypes); got != `["Ingress"]` {
		t.Errorf("the policy is of %s", got)
	}
	open := map[int32]bool{}
	for _, rule := range policy.Spec.Ingress {
		if len(rule.Ports) == 0 {
			t.Error("a rule for every port")
		}
		for _, p := range rule.Ports {
			open[p.Port.IntVal] = true
			if p.Port.IntVal == ports["metrics"] && len(rule.From) == 0 {
				t.Error("everyone can reach the admin port")
			}
		}
	}
	delete(open, ports["metrics"])
	for name, number := range ports {
		if name != "metrics" && !open[number] {
			t.Errorf("port %s is not open", name)
		}
		delete(open, number)
	}
	if len(open) > 0 {
		t.Errorf("ports of nobody are open: %v", open)
	}
}
