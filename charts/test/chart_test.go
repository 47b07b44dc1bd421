package chart_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// releases are the forms of the chart that have a pod: the gateway for each file of
// values, and the sidecar in another chart, in both ways.
func releases(t *testing.T) map[string]manifests {
	t.Helper()
	all := map[string]manifests{}
	for _, file := range values(t) {
		if name := filepath.Base(file); name != "sidecar-values.yaml" {
			all[name] = render(t, chart, "-f", file)
		}
	}
	accounts := withSidecar(t)
	all["sidecar"] = render(t, accounts)
	all["classic sidecar"] = render(t, accounts, "--set", "tallygate.sidecar.native=false")
	return all
}

// withSidecar puts the example of another chart together with ours, as helm dependency
// build does, and with the values for a sidecar.
func withSidecar(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{"testdata/accounts": dir, chart: filepath.Join(dir, "charts", "tallygate")} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := os.ReadFile(chart + "/ci/sidecar-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	under := "tallygate:\n  " + strings.ReplaceAll(string(lines), "\n", "\n  ")
	if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(under), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSidecar(t *testing.T) {
	accounts := withSidecar(t)
	all := render(t, accounts)
	if got, want := all.names(), "ConfigMap/r-tallygate Deployment/accounts NetworkPolicy/r-tallygate PodMonitor/r-tallygate Service/accounts"; got != want {
		t.Errorf("the release is of %s, want %s", got, want)
	}
	native := podOf(t, all)
	if policy := native.gate.RestartPolicy; len(native.Spec.InitContainers) != 1 || policy == nil || *policy != core.ContainerRestartPolicyAlways {
		t.Errorf("the gate is %s", text(t, native.Spec.InitContainers))
	}
	classic := podOf(t, render(t, accounts, "--set", "tallygate.sidecar.native=false"))
	if classic.gate.RestartPolicy != nil {
		t.Errorf("the classic gate has the restart policy %s", *classic.gate.RestartPolicy)
	}
	if len(native.Annotations) > 0 {
		t.Errorf("the pod has %v", native.Annotations)
	}
	restarted := podOf(t, render(t, accounts, "--set", "tallygate.restartOnConfigChange=true"))
	if restarted.Annotations["checksum/tallygate"] == "" {
		t.Error("nothing replaces the pods when the configuration changes")
	}
	if _, fault := template(t, accounts, "--set", "tallygate.mode=gateway"); !strings.Contains(fault, "set mode: sidecar") {
		t.Errorf("in the other mode: %s", fault)
	}
}

func TestGateway(t *testing.T) {
	all := render(t, chart, "-f", chart+"/ci/gateway-values.yaml")
	deployment := get[*apps.Deployment](t, all, "Deployment/r-tallygate")
	if *deployment.Spec.Replicas != 2 || deployment.Spec.Strategy.Type != apps.RollingUpdateDeploymentStrategyType {
		t.Errorf("the Deployment is %s", text(t, deployment.Spec))
	}
	spread := deployment.Spec.Template.Spec.TopologySpreadConstraints
	if len(spread) != 1 || text(t, spread[0].LabelSelector) != `{"matchLabels":{"tallygate":"r-tallygate"}}` {
		t.Errorf("the pods spread by %s", text(t, spread))
	}
	if account := get[*core.ServiceAccount](t, all, "ServiceAccount/r-tallygate"); account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
		t.Error("the service account's token is mounted")
	}

	full := render(t, chart, "-f", chart+"/ci/full-values.yaml")
	if replicas := get[*apps.Deployment](t, full, "Deployment/gate").Spec.Replicas; replicas != nil {
		t.Errorf("%d replicas beside an autoscaler", *replicas)
	}
	if to := get[*autoscaling.HorizontalPodAutoscaler](t, full, "HorizontalPodAutoscaler/gate").Spec.ScaleTargetRef; to.Name != "gate" || to.Kind != "Deployment" {
		t.Errorf("the autoscaler scales %v", to)
	}
	if m := get[*monitoring.PodMonitor](t, full, "PodMonitor/gate"); m.Labels["release"] != "monitoring" || m.Spec.PodMetricsEndpoints[0].Interval != "15s" {
		t.Errorf("the PodMonitor is %s", text(t, m))
	}
}

// Only one process can use the issuer's state, and the state outlives the process.
func TestIssuer(t *testing.T) {
	issuer := chart + "/ci/issuer-values.yaml"
	all := render(t, chart, "-f", issuer)
	deployment := get[*apps.Deployment](t, all, "Deployment/r-tallygate")
	if *deployment.Spec.Replicas != 1 || deployment.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
		t.Errorf("the Deployment is %s", text(t, deployment.Spec))
	}
	// Otherwise the folder is opened to the group at each start, and the gate refuses it.
	if policy := deployment.Spec.Template.Spec.SecurityContext.FSGroupChangePolicy; *policy != core.FSGroupChangeOnRootMismatch {
		t.Errorf("the volume's group is changed %s", *policy)
	}
	if claim := get[*core.PersistentVolumeClaim](t, all, "PersistentVolumeClaim/r-tallygate-state"); claim.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Error("the claim goes with the release")
	}
	for value, want := range map[string]string{
		"state.existingClaim=mine":     `"persistentVolumeClaim":{"claimName":"mine"}`,
		"state.insecureEphemeral=true": `"emptyDir":{}`,
	} {
		all := render(t, chart, "-f", issuer, "--set", value)
		volumes := get[*apps.Deployment](t, all, "Deployment/r-tallygate").Spec.Template.Spec.Volumes
		if !strings.Contains(text(t, volumes), want) || strings.Contains(all.names(), "PersistentVolumeClaim") {
			t.Errorf("%s: %s and %s", value, all.names(), text(t, volumes))
		}
	}
}

// The suite refused_test.yaml has all other refusals; helm-unittest ignores kubeVersion.
func TestOldKubernetes(t *testing.T) {
	if _, fault := template(t, chart, "-f", chart+"/ci/gateway-values.yaml", "--kube-version", "1.28.9"); !strings.Contains(fault, "incompatible with Kubernetes") {
		t.Errorf("on Kubernetes 1.28: %q", fault)
	}
}

// Kubernetes 1.29 knows no sleep action.
func TestSleep(t *testing.T) {
	file := chart + "/ci/gateway-values.yaml"
	for version, sleeps := range map[string]bool{"1.29.15": false, "1.30.0": true, "1.30.4-vendor.7": true, "1.36.1": true} {
		pod := podOf(t, render(t, chart, "-f", file, "--kube-version", version))
		if (pod.gate.Lifecycle != nil) != sleeps {
			t.Errorf("on %s: %s", version, text(t, pod.gate.Lifecycle))
		}
	}
}

// TestSchema: the schema has exactly the values of values.yaml, and refuses unknown keys in every
// map whose keys it lists.
func TestSchema(t *testing.T) {
	var all map[string]any
	content, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(content, &all); err != nil {
		t.Fatal(err)
	}
	content, err = os.ReadFile(chart + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.NewDecoder(bytes.NewReader(content)).Decode(&schema); err != nil {
		t.Fatal(err)
	}
	all["enabled"], all["global"] = true, map[string]any{} // not ours
	compare(t, "values", all, schema)
}

func compare(t *testing.T, path string, value any, schema map[string]any) {
	t.Helper()
	listed, ok := schema["properties"].(map[string]any)
	if !ok {
		return
	}
	if schema["additionalProperties"] != false {
		t.Errorf("%s takes anything", path)
	}
	there, _ := value.(map[string]any)
	if len(there) == 0 && path != "values" { // {}: the chart has no default for it
		return
	}
	if got, want := slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(listed)); !slices.Equal(got, want) {
		t.Errorf("%s has %q, its schema %q", path, got, want)
	}
	for name, below := range listed {
		if object, is := below.(map[string]any); is {
			compare(t, path+"."+name, there[name], object)
		}
	}
}
