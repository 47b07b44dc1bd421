package chart_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

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
			checkHardened(t, name, pod)
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
			checkStop(t, all, pod)
		})
	}
}

// checkStop compares the hooks and the grace period with the time that a stop takes. A native sidecar drains in its
// hook, since its SIGTERM comes when the API has ended; the API serves until the gate has no clients.
func checkStop(t *testing.T, all manifests, pod gatePod) {
	t.Helper()
	if pod.gate.Lifecycle == nil || pod.gate.Lifecycle.PreStop == nil {
		t.Fatal("the gate has no preStop")
	}
	delay, timeout := drainOf(t, all, pod)
	hook, apiMustSleep := pod.gate.Lifecycle.PreStop, delay+timeout
	stop := delay + timeout + 5 // preStopSleepSeconds, but for full-values.yaml
	if hook.Sleep != nil {
		stop = delay + timeout + hook.Sleep.Seconds
	}
	if pod.gate.RestartPolicy != nil {
		apiMustSleep = delay
		want := fmt.Sprintf(`{"exec":{"command":["/tallygate","drain","--address","127.0.0.1:9090","--wait","%ds"]}}`, delay+timeout)
		if got := text(t, hook); got != want {
			t.Errorf("the gate's preStop is %s, want %s", got, want)
		}
	}
	for _, c := range pod.Spec.Containers {
		if c.Name == "accounts" {
			if got := c.Lifecycle.PreStop.Sleep.Seconds; got != apiMustSleep+5 {
				t.Errorf("preStop of the API is %d s, want %d", got, apiMustSleep+5)
			}
		}
	}
	if grace := pod.Spec.TerminationGracePeriodSeconds; grace == nil || *grace < stop+10 {
		t.Errorf("the grace period is %s s, want 10 s more than the %d s that the gate may take", text(t, grace), stop)
	}
}

// A drain of five minutes gets its grace period: 5 s of sleep, 5 s of delay, 300 s, and 10 s.
func TestLongDrain(t *testing.T) {
	accounts := withSidecar(t)
	for name, all := range map[string]manifests{
		"gateway":         render(t, chart, "-f", chart+"/ci/gateway-values.yaml", "--set", "config.drain.timeout=5m"),
		"sidecar":         render(t, accounts, "--set", "tallygate.config.drain.timeout=5m"),
		"classic sidecar": render(t, accounts, "--set", "tallygate.config.drain.timeout=5m,tallygate.sidecar.native=false"),
	} {
		pod := podOf(t, all)
		checkStop(t, all, pod)
		if got := *pod.Spec.TerminationGracePeriodSeconds; got != 320 {
			t.Errorf("%s: the grace period is %d s, want 320", name, got)
		}
	}
	if _, fault := template(t, accounts, "--set", "tallygate.terminationGracePeriodSeconds=30"); !strings.Contains(fault, "must be more than 30") {
		t.Errorf("a grace period of 30 s: %q", fault)
	}
}

// drainOf returns the seconds of drain.delay and of drain.timeout in the configuration of the pod.
func drainOf(t *testing.T, all manifests, pod gatePod) (int64, int64) {
	t.Helper()
	config := struct {
		Drain struct{ Delay, Timeout string } `json:"drain"`
	}{}
	config.Drain.Delay, config.Drain.Timeout = "5s", "20s" // the gate's defaults: TestChartDrain of cmd/tallygate
	text := get[*core.ConfigMap](t, all, "ConfigMap/"+pod.Spec.Volumes[0].ConfigMap.Name).Data["tallygate.yaml"]
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	delay, err1 := time.ParseDuration(config.Drain.Delay)
	timeout, err2 := time.ParseDuration(config.Drain.Timeout)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return int64(delay.Seconds()), int64(timeout.Seconds())
}

// checkHardened: OpenShift chooses user and groups by itself.
func checkHardened(t *testing.T, name string, pod gatePod) {
	t.Helper()
	user := `"runAsUser":65532,"runAsGroup":65532,`
	if name == "openshift-values.yaml" {
		user = ""
	}
	want := `{"capabilities":{"drop":["ALL"]},"privileged":false,` + user + `"runAsNonRoot":true,` +
		`"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false,"seccompProfile":{"type":"RuntimeDefault"}}`
	if got := text(t, pod.gate.SecurityContext); got != want {
		t.Errorf("the security context is %s,\nwant %s", got, want)
	}
	if group := pod.Spec.SecurityContext.FSGroup; (group == nil) != (user == "") {
		t.Errorf("fsGroup is %s, and the files have the permissions 0440", text(t, group))
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
		switch {
		case !strings.HasPrefix(v.Name, "tallygate-"): // extraVolumes
		case v.ConfigMap != nil && *v.ConfigMap.DefaultMode == 0o440:
		case v.Secret != nil && *v.Secret.DefaultMode == 0o440:
		case v.Name == "tallygate-state" && v.PersistentVolumeClaim != nil:
			get[*core.PersistentVolumeClaim](t, all, "PersistentVolumeClaim/"+v.PersistentVolumeClaim.ClaimName)
		case v.Name == "tallygate-state" && v.EmptyDir != nil: // revocations.state, which an issuer can restore
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
					if o.Labels["app.kubernetes.io/component"] != "metrics" {
						checkTargets(t, o, pod, ports)
					}
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
				case *monitoring.ServiceMonitor:
					checkServiceMonitor(t, all, o, ports)
					continue
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
			if isSidecar(pod) {
				t.Errorf("%s leads to a sidecar's port by its name, %s", service.Name, name)
			}
			number = ports[name]
		}
		if number == ports["metrics"] || !slices.Contains(slices.Collect(maps.Values(ports)), number) {
			t.Errorf("%s leads to port %s", service.Name, p.TargetPort.String())
		}
	}
}

func isSidecar(pod gatePod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c core.Container) bool { return c.Name == "tallygate" })
}

// checkServiceMonitor: a ServiceMonitor selects one Service, which leads to the admin port and has no address
// of its own.
func checkServiceMonitor(t *testing.T, all manifests, monitor *monitoring.ServiceMonitor, ports map[string]int32) {
	t.Helper()
	var selected []*core.Service
	for _, object := range all {
		service, is := object.(*core.Service)
		if !is {
			continue
		}
		fits := func(key string) bool { return service.Labels[key] == monitor.Spec.Selector.MatchLabels[key] }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(monitor.Spec.Selector.MatchLabels)), func(key string) bool { return !fits(key) }) {
			selected = append(selected, service)
		}
	}
	if len(selected) != 1 || selected[0].Spec.ClusterIP != core.ClusterIPNone || len(selected[0].Spec.Ports) != 1 {
		t.Fatalf("the ServiceMonitor selects %s, want one headless Service with one port", text(t, selected))
	}
	endpoints, port := monitor.Spec.Endpoints, selected[0].Spec.Ports[0]
	if len(endpoints) != 1 || endpoints[0].Port != port.Name || endpoints[0].Path != "/metrics" || port.TargetPort.IntVal != ports["metrics"] {
		t.Errorf("the ServiceMonitor scrapes %s at port %s", text(t, endpoints), text(t, port))
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

// A parent's values.yaml can remove the user from a sidecar, for OpenShift. Helm 4 ignores null there.
func TestSidecarOfAnyUser(t *testing.T) {
	accounts := withSidecar(t)
	file, err := os.OpenFile(accounts+"/values.yaml", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString("\n  containerSecurityContext: {runAsUser: \"\", runAsGroup: \"\"}\n")
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	context := podOf(t, render(t, accounts)).gate.SecurityContext
	if context.RunAsUser != nil || context.RunAsGroup != nil || context.RunAsNonRoot == nil || !*context.RunAsNonRoot {
		t.Errorf("the security context is %s, want no user, no group, and runAsNonRoot", text(t, context))
	}
}
