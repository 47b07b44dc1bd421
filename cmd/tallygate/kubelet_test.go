package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/kubelettest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// legacyAPI is the program of the API in the drill: an HTTP server that SIGTERM ends at once, as many
// older programs. It fails requests without the identity header that the gate sets, except requests of its
// probe.
func legacyAPI() {
	address := flag.String("listen", "", "")
	flag.Parse()
	server := &http.Server{Addr: *address, ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/accounts/slow" {
			time.Sleep(300 * time.Millisecond)
		}
		known := r.Header.Get("Tallygate-Partner") == "northwind" || r.URL.Path == "/healthz"
		if _, err := io.Copy(io.Discard, r.Body); err != nil || !known {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "account for "+r.Header.Get("Tallygate-Partner"))
	})}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	os.Exit(1)
}

// A cluster is a node with the Secrets and ConfigMaps of the chart's example, an API with the gate as its
// native sidecar.
type cluster struct {
	*kubelettest.Node
	t             *testing.T
	spec          *kubelettest.Spec
	signer        *testpki.Signer
	server, next  *testpki.Pair // the gate's certificate, before and after its renewal
	oldCA, newCA  *testpki.Pair // the partner's anchors
	before, after *credentials  // the partner's credentials under both anchors
}

// clusters counts clusters, each of which has a network of its own.
var clusters atomic.Int64

// network returns the first three bytes of the addresses of a cluster's pods. Each cluster of a machine has others.
func network() string {
	return fmt.Sprintf("127.%d.%d", 64+clusters.Add(1)%8*8+int64(os.Getpid()>>8&7), os.Getpid()&255)
}

// execIn returns the command lines of commands that run in the gate's container. The gate is process 1 in a
// container, and has another process id in the test.
func execIn(t *testing.T, gate string) func(argv []string, pid int) []string {
	return func(argv []string, pid int) []string {
		if argv[0] != "/tallygate" {
			t.Errorf("the image has no %q", argv)
		}
		return append(append([]string{gate}, argv[1:]...), "--pid", strconv.Itoa(pid))
	}
}

// credentials are a certificate of the partner and a token that is bound to it.
type credentials struct {
	pair  *testpki.Pair
	token string
}

// newCluster returns a cluster with the objects of the manifests, and with the objects that they name.
// The last Deployment is used.
func newCluster(t *testing.T, manifests ...[]byte) *cluster {
	t.Helper()
	notShort(t)
	if runtime.GOOS != "linux" {
		gatetest.SkipOutsideCI(t, "pods have addresses of loopback, which other systems lack")
	}
	c := &cluster{t: t, signer: testpki.NewSigner("ES256", "k1"), oldCA: testpki.NewCA("Northwind Root"), newCA: testpki.NewCA("Northwind Root 2")}
	names := testpki.DNS("api.example.test")
	c.server, c.next = testpki.SelfSigned("gate", names), testpki.SelfSigned("gate", names)
	c.before, c.after = c.certify(c.oldCA), c.certify(c.newCA)
	api, err := exec.LookPath("accounts")
	c.check(err)
	gate := binary(t)
	c.Node = &kubelettest.Node{
		Dir:         t.TempDir(),
		Entrypoints: map[string][]string{"registry.example/tallygate:1": {gate}, "registry.example/accounts:1": {api}},
		Exec:        execIn(t, gate),
		Rewrite: func(root, ip string) *strings.Replacer {
			return strings.NewReplacer("/etc/tallygate", root+"/etc/tallygate",
				"127.0.0.1:", ip+":", "address: :", "address: "+ip+":")
		},
		Network: network(),
		Lag:     2 * time.Second, ProbesPerPeriod: 10,
	}
	t.Cleanup(c.Kill)
	for _, manifest := range manifests {
		c.read(manifest)
	}
	if c.spec == nil {
		t.Fatal("the manifests have no Deployment")
	}
	c.check(c.Apply("Secret/accounts-tls", tlsSecret(c.server)))
	c.check(c.Apply("ConfigMap/northwind-ca", map[string][]byte{"ca.crt": c.oldCA.CertPEM()}))
	c.check(c.Apply("ConfigMap/partner-keys", map[string][]byte{"keys.json": testpki.KeySet(c.signer)}))
	return c
}

func (c *cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// certify issues the partner's certificate and a token.
func (c *cluster) certify(ca *testpki.Pair) *credentials {
	pair := ca.Leaf("ledger", testpki.DNS("ledger.northwind.example"))
	return &credentials{pair, c.signer.Token(testpki.Bound("https://as.example.test", "https://api.example.test", "northwind-ledger", pair))}
}

func tlsSecret(pair *testpki.Pair) map[string][]byte {
	return map[string][]byte{"tls.crt": pair.CertPEM(), "tls.key": pair.KeyPEM()}
}

// renderSidecar returns the manifests of the chart's example of an API with the gate as its sidecar.
func renderSidecar(t *testing.T) []byte {
	t.Helper()
	notShort(t)
	helm, dir := gatetest.Helm(t, "../.."), t.TempDir()
	values, err := os.ReadFile("testdata/kubelet/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{chart + "/../test/testdata/accounts": dir, chart: filepath.Join(dir, "charts", "tallygate")} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	under := "tallygate:\n  " + strings.ReplaceAll(string(values), "\n", "\n  ")
	if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(under), 0o600); err != nil {
		t.Fatal(err)
	}
	rendered, err := exec.CommandContext(t.Context(), helm, "template", "r", dir).Output()
	if err != nil {
		t.Fatal(err, stderrOf(err))
	}
	return rendered
}

// injectSidecar returns the API's manifest after inject, for the objects of the example.
func injectSidecar(t *testing.T) []byte {
	t.Helper()
	injected, err := exec.CommandContext(t.Context(), binary(t), "inject", "--image", "registry.example/tallygate:1", "--config-map", "r-tallygate",
		"--tls-secret", "accounts-tls", "--file", "northwind=configMap:northwind-ca", "--file", "keys=configMap:partner-keys",
		"--probes", "forward", "testdata/kubelet/accounts.yaml").Output()
	if err != nil {
		t.Fatal(err, stderrOf(err))
	}
	return injected
}

// read takes the pod of the Deployment, and the Secrets and ConfigMaps.
func (c *cluster) read(rendered []byte) {
	c.t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(rendered))
	for {
		var object struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string // base64 in a Secret, text in a ConfigMap
			Spec     struct{ Template struct{ Spec yaml.Node } }
		}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		c.check(err)
		switch object.Kind {
		case "Deployment":
			pod, err := yaml.Marshal(&object.Spec.Template.Spec)
			c.check(err)
			c.spec, err = kubelettest.ReadSpec(pod)
			c.check(err)
		case "ConfigMap", "Secret":
			files := map[string][]byte{}
			for name, text := range object.Data {
				files[name] = []byte(text)
				if object.Kind == "Secret" {
					files[name], err = base64.StdEncoding.DecodeString(text)
					c.check(err)
				}
			}
			c.check(c.Apply(object.Kind+"/"+object.Metadata.Name, files))
		}
	}
}

// run starts a pod and waits until it is ready.
func (c *cluster) run() *kubelettest.Pod {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), gatetest.Patience)
	defer cancel()
	pod, err := c.Run(ctx, c.spec)
	c.check(err)
	return pod
}

// transport sends requests to the Service, over new connections with the certificate.
func (c *cluster) transport(who *credentials, h2 bool) *http.Transport {
	pair, protocol := who.pair.TLS(), "http/1.1"
	if h2 {
		protocol = "h2"
	}
	settings := &tls.Config{
		RootCAs: testpki.Pool(c.server, c.next), ServerName: "api.example.test", NextProtos: []string{protocol},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	}
	return &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: h2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Endpoints.Dial(ctx, "8443") }}
}
