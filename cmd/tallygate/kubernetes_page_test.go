package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/kubelettest"
)

// kubectl is a script in place of a cluster: it writes created and applied objects to a file, in the form of
// the real kubectl.
const kubectl = `
kubectl() {
  case "$1" in
  create) { echo ---; command kubectl "$@" --dry-run=client --output yaml; } >>k8s/cluster.yaml ;;
  apply) { echo ---; cat "$3"; } >>k8s/cluster.yaml ;;
  rollout) ;;
  *) echo "unexpected: kubectl $*" >&2; return 1 ;;
  esac
}
`

// TestKubernetes runs the commands of docs/kubernetes.md, and then runs the pod that the commands define: the gate
// and the API are processes with the probes, volumes and command lines of the manifest.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	notShort(t)
	gatetest.NeedPrograms(t, "kubectl", "curl", "python3")
	blocks := testedBlocks(t, "../../docs/kubernetes.md", 6)
	for _, shell := range []string{"bash", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			gatetest.NeedPrograms(t, shell)
			dir := clone(t)
			issuer, service := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
			run := func(number int) string {
				return runShell(t, shell, dir, kubectl+blocks[number][1], map[string]string{"127.0.0.1:8444": issuer, "127.0.0.1:9443": service})
			}
			run(0)
			run(1)
			serveTrial(t, dir, blocks[2], issuer)
			run(3)
			run(4)
			c := newTrialCluster(t)
			manifests, err := os.ReadFile(filepath.Join(dir, "k8s", "cluster.yaml"))
			c.check(err)
			c.read(manifests)
			pod := c.run()
			forward(t, service, net.JoinHostPort(pod.IP, "8443"))
			output := run(5)
			if want := regexp.MustCompile(`(?s)^{"id": 7, "balance": "120.50"}.*"reason":"no_certificate"`); !want.MatchString(output) {
				t.Errorf("the calls print %s\nwant %s\n%s", output, want, pod.Log())
			}
			c.Delete(pod)
			if events := pod.Events(); len(events) > 0 {
				t.Errorf("stopping the pod: %q\n%s", events, pod.Log())
			}
		})
	}
}

// serveTrial starts the issuer at the address by the command of the page.
func serveTrial(t *testing.T, dir string, block [2]string, address string) {
	t.Helper()
	settings := filepath.Join(dir, "trial", "tallygate.yaml")
	edit(t, settings, `https://127\.0\.0\.1:\d+`, "https://"+address)
	edit(t, settings, `(\n  issuer: .*\n  address: )\S+`, "${1}"+address)
	edit(t, settings, `(listener:\n  address: )\S+`, "${1}127.0.0.1:0")
	edit(t, settings, `admin:.*`, `admin: {address: "127.0.0.1:0"}`)
	argv := strings.Fields(strings.ReplaceAll(block[1], " trial/", " "+dir+"/trial/"))
	if argv[0] != "./tallygate" || block[0] == "" {
		t.Fatalf("want a command that stays running, got %s", block[1])
	}
	issuer := &hosted{t: t}
	issuer.start(append([]string{binary(t)}, argv[1:]...)...)
}

// newTrialCluster returns a cluster without objects that has the images of the page. The pod's address replaces
// the wildcard address and loopback.
func newTrialCluster(t *testing.T) *cluster {
	t.Helper()
	gate := binary(t)
	c := &cluster{t: t, Node: &kubelettest.Node{
		Dir:         t.TempDir(),
		Entrypoints: map[string][]string{"registry.example/tallygate:1": {gate}},
		Exec:        execIn(t, gate),
		Rewrite: func(root, ip string) *strings.Replacer {
			return strings.NewReplacer("/etc/tallygate", root+"/etc/tallygate", "/srv", root+"/srv",
				"--bind=127.0.0.1", "--bind="+ip, "http://127.0.0.1:", "http://"+ip+":", "127.0.0.1:9090", ip+":9090",
				`address: ":`, `address: "`+ip+":")
		},
		Network: network(), Lag: time.Second, ProbesPerPeriod: 10,
	}}
	t.Cleanup(c.Kill)
	return c
}

// forward relays connections from an address to another until the test ends, as kubectl port-forward does.
func forward(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			outer, err := l.Accept()
			if err != nil {
				return
			}
			inner, err := net.Dial("tcp", to)
			if err != nil {
				_ = outer.Close()
				continue
			}
			go relay(outer, inner)
			go relay(inner, outer)
		}
	}()
}

// relay copies to the end of from, and then closes both connections.
func relay(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}
