package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestInjectedProbes runs the gate with the arguments that inject writes, before an application on loopback, and
// calls the probes that inject rewrites, as the kubelet does.
func TestInjectedProbes(t *testing.T) {
	t.Parallel()
	var healthy atomic.Bool
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !healthy.Load() || r.URL.Path != "/healthz" {
			http.Error(w, "not healthy", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(application.Close)
	_, port, _ := strings.Cut(application.Listener.Addr().String(), ":")
	command := exec.CommandContext(t.Context(), binary(t), "inject", "--image", "tallygate", "--loopback-env", "HOST=127.0.0.1", "-")
	command.Stdin = strings.NewReader(fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: accounts}
spec:
  selector: {matchLabels: {app: accounts}}
  template:
    metadata: {labels: {app: accounts}}
    spec:
      containers:
        - name: accounts
          ports: [{containerPort: %s}]
          livenessProbe: {httpGet: {path: /healthz, port: %[1]s}}
          startupProbe: {tcpSocket: {port: %[1]s}}
`, port))
	output, err := command.Output()
	if err != nil {
		t.Fatal(err, stderrOf(err))
	}
	var injected map[string]any
	if err := yaml.Unmarshal(output, &injected); err != nil {
		t.Fatal(err)
	}
	pod := at(injected, "spec", "template", "spec").(map[string]any)
	gate, app := pod["initContainers"].([]any)[0].(map[string]any), pod["containers"].([]any)[0].(map[string]any)
	liveness := at(app, "livenessProbe", "httpGet", "path").(string)
	startup := at(app, "startupProbe", "httpGet", "path").(string)

	r := newReloading(t)
	for _, argument := range gate["args"].([]any)[3:] { // behind serve --config FILE
		r.arguments = append(r.arguments, argument.(string))
	}
	r.configure()
	r.serve()
	check := func(path string, want int) {
		t.Helper()
		if status, body, err := r.admin(path); err != nil || status != want {
			t.Errorf("GET %s: got %d %q (%v), want %d", path, status, body, err, want)
		}
	}
	check(liveness, http.StatusInternalServerError)
	healthy.Store(true)
	check(liveness, http.StatusOK)
	check(startup, http.StatusOK)
	if status, _ := r.askAdmin(liveness, "rebinding.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("with another Host: got %d, want 421", status)
	}
	application.Close()
	check(liveness, http.StatusServiceUnavailable)
	check(startup, http.StatusServiceUnavailable)
	r.check(r.stop())
}

// at returns the value at a path of keys.
func at(v any, path ...string) any {
	for _, key := range path {
		v = v.(map[string]any)[key]
	}
	return v
}
