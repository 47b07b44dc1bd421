package kubelettest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// pod has a native sidecar and an API, which write their hooks and signals to the file log.
const pod = `
terminationGracePeriodSeconds: 3
initContainers:
  - name: sidecar
    image: shell
    args: ['trap "echo sidecar stops >>/log; exit" TERM; echo sidecar starts >>/log; while :; do sleep 0.02; done']
    restartPolicy: Always
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo sidecar hook >>/log"]}}}
    volumeMounts: [{name: keys, mountPath: /keys}]
containers:
  - name: api
    image: shell
    args: ['trap "TRAP" TERM; echo api starts >>/log; while :; do sleep 0.02; done']
    lifecycle: {preStop: {sleep: {seconds: 1}}}
volumes: [{name: keys, secret: {secretName: keys}}]
`

// run starts the pod. The API runs the given command at SIGTERM.
func run(t *testing.T, trap string) (*Node, *Pod) {
	t.Helper()
	n := &Node{
		Dir: t.TempDir(), Network: "127.1.1",
		Entrypoints: map[string][]string{"shell": {"sh", "-c"}},
		Exec:        func(argv []string, _ int) []string { return argv },
		Rewrite: func(root, _ string) *strings.Replacer {
			return strings.NewReplacer("/log", root+"/log")
		},
	}
	t.Cleanup(n.Kill)
	spec, err := ReadSpec([]byte(strings.Replace(pod, "TRAP", trap, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Apply("Secret/keys", map[string][]byte{"tls.key": []byte("old")}); err != nil {
		t.Fatal(err)
	}
	p, err := n.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	gatetest.Eventually(t, "both containers wait for SIGTERM", func() bool {
		text, err := os.ReadFile(filepath.Join(p.Root, "log"))
		return err == nil && strings.Count(string(text), "starts") == 2
	})
	return n, p
}

func content(t *testing.T, p *Pod, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// At the end both hooks run, then the API gets SIGTERM, and the native sidecar when the API has ended.
func TestOrder(t *testing.T) {
	n, p := run(t, "echo api stops >>/log; exit")
	n.Delete(p)
	log := content(t, p, "log")
	if !strings.Contains(log, "sidecar hook\n") || !strings.HasSuffix(log, "sidecar stops\n") || strings.Count(log, "api stops\n") != 1 {
		t.Errorf("the log is %q, want the hook, the API's end, and the sidecar's end last", log)
	}
	if events := p.Events(); len(events) > 0 {
		t.Errorf("got the events %q, want none", events)
	}
}

// A container that outlives the grace period is killed, and the sidecar stops after it.
func TestKill(t *testing.T) {
	n, p := run(t, ":")
	n.Delete(p)
	if diff := cmp.Diff([]string{"api was killed after the grace period of 3s"}, p.Events()); diff != "" {
		t.Errorf("the events (-want +got):\n%s", diff)
	}
	if log := content(t, p, "log"); !strings.HasSuffix(log, "sidecar stops\n") {
		t.Errorf("the log is %q, want the sidecar's end last", log)
	}
}

// The files of a Secret change by the link ..data, and the former folder is removed.
func TestApply(t *testing.T) {
	n, p := run(t, "exit")
	if err := n.Apply("Secret/keys", map[string][]byte{"tls.key": []byte("new")}); err != nil {
		t.Fatal(err)
	}
	if got := content(t, p, "keys/tls.key"); got != "new" {
		t.Errorf("the file has %q, want new", got)
	}
	if link, err := os.Readlink(filepath.Join(p.Root, "keys", "tls.key")); err != nil || link != "..data/tls.key" {
		t.Errorf("the file leads to %q, %v, want ..data/tls.key", link, err)
	}
	entries, err := os.ReadDir(filepath.Join(p.Root, "keys"))
	if err != nil || len(entries) != 3 {
		t.Errorf("the volume has %v, %v, want one folder, ..data and the file", entries, err)
	}
}

// ReadSpec refuses probes and hooks that a Node cannot run.
func TestReadSpec(t *testing.T) {
	for text, want := range map[string]string{
		"containers: []": "the pod has no container",
		"containers: [{name: a, readinessProbe: {exec: {command: [x]}}}]":              "readinessProbe is no httpGet",
		"containers: [{name: a, lifecycle: {preStop: {httpGet: {path: /, port: 1}}}}]": "preStop is neither exec nor sleep",
	} {
		if _, err := ReadSpec([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
