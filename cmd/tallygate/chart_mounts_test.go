package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A chartPod has the fields of a rendered pod that the kubelet needs to mount its volumes and start the gate.
type chartPod struct {
	SecurityContext chartUser `yaml:"securityContext"`
	Containers      []struct {
		SecurityContext chartUser `yaml:"securityContext"`
		VolumeMounts    []struct {
			Name string `yaml:"name"`
			Path string `yaml:"mountPath"`
		} `yaml:"volumeMounts"`
	} `yaml:"containers"`
	Volumes []struct {
		Name      string       `yaml:"name"`
		Secret    *chartSource `yaml:"secret"`
		ConfigMap *chartSource `yaml:"configMap"`
	} `yaml:"volumes"`
}

type chartUser struct {
	User    *uint32 `yaml:"runAsUser"`
	Group   *uint32 `yaml:"runAsGroup"`
	FSGroup *uint32 `yaml:"fsGroup"`
}

type chartSource struct {
	Mode os.FileMode `yaml:"defaultMode"`
}

// TestChartMounts starts the gate as the user of the chart's pods, in folders with the symlinks, owners and
// permissions that the kubelet makes. The gate reads its files and warns of no file. The test starts it
// twice, because the second start finds the issuer's state of the first start.
func TestChartMounts(t *testing.T) {
	notShort(t)
	// The default policy of OpenShift takes the user and fsGroup from the namespace's range; the group is 0.
	openshift := chartUser{User: new(uint32(1000680000)), Group: new(uint32(0)), FSGroup: new(uint32(1000680000))}
	unreadable := regexp.MustCompile(`permission denied`)
	readable := regexp.MustCompile(`secret is readable by every user`)
	for _, c := range []struct {
		name, values string
		set          []string
		chosen       chartUser // the user that the cluster chooses if the chart sets none
		says         *regexp.Regexp
		ends         bool
	}{
		{name: "gateway", values: "gateway"},
		{name: "issuer", values: "issuer"},
		{name: "OpenShift", values: "openshift", chosen: openshift},
		{name: "OpenShift with an issuer", values: "issuer", chosen: openshift, set: []string{
			`podSecurityContext={"runAsUser":null,"runAsGroup":null,"fsGroup":null}`, `containerSecurityContext={"runAsUser":null,"runAsGroup":null}`,
		}},
		{name: "a pod without fsGroup", values: "gateway", set: []string{"podSecurityContext.fsGroup=null"}, says: unreadable, ends: true},
		{name: "and files for everyone", values: "gateway", set: []string{"podSecurityContext.fsGroup=null", `fileMode="0444"`}, says: readable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := mountedGate(t, c.values, c.set, c.chosen)
			for range 2 {
				log, err := g.run(t)
				if c.ends != (err != nil) {
					t.Fatalf("the gate ended: %v, want an error: %t\n%s", err, c.ends, log)
				}
				if c.says != nil && !c.says.MatchString(log) {
					t.Errorf("the log does not say %s:\n%s", c.says, log)
				}
				for line := range strings.Lines(log) {
					if c.says == nil && strings.Contains(line, `"level":"WARN"`) && !strings.Contains(line, "outdated Go release") {
						t.Errorf("the gate warns: %s", line)
					}
				}
			}
		})
	}
}

// A mounted gate has the folder of a pod's volumes and the user of the container.
type mounted struct {
	root string
	user syscall.Credential
}

// mountedGate renders the chart and mounts the pod's volumes as the kubelet does before the gate starts.
func mountedGate(t *testing.T, values string, set []string, chosen chartUser) mounted {
	t.Helper()
	if os.Getuid() != 0 {
		gatetest.SkipOutsideCI(t, "only root may give files to other users")
	}
	args := []string{"template", "r", chart, "--values", chart + "/ci/" + values + "-values.yaml"}
	for _, s := range set {
		args = append(args, "--set-json", s)
	}
	if values != "issuer" { // the gate fetches no keys from servers outside of this machine
		keys := gatetest.JSON(string(testpki.KeySet(testpki.NewSigner("ES256", "k1"))))
		args = append(args, "--set-json", "config.authorization_servers[0].key_set.jwks="+string(keys))
	}
	rendered, err := exec.CommandContext(t.Context(), gatetest.Helm(t, "../.."), args...).Output()
	if err != nil {
		t.Fatal(err, stderrOf(err))
	}
	pod := podIn(t, rendered)
	root, err := os.MkdirTemp("", "tallygate-pod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	user := merged(pod.Containers[0].SecurityContext, pod.SecurityContext, chosen)
	m := mounted{root: root, user: syscall.Credential{Uid: *user.User, Gid: *user.Group}}
	group := 0
	if user.FSGroup != nil {
		group = int(*user.FSGroup)
		m.user.Groups = []uint32{*user.FSGroup}
	}
	config := strings.NewReplacer(":8443", "127.0.0.1:0", ":9443", "127.0.0.1:0", ":9444", "127.0.0.1:0", ":9090", "127.0.0.1:0",
		"/etc/tallygate", root+"/etc/tallygate", "/var/lib/tallygate", root+"/var/lib/tallygate").Replace(configOf(t, rendered))
	for _, v := range pod.Volumes {
		path := filepath.Join(root, pod.pathOf(t, v.Name))
		switch {
		case v.Name == "tallygate-config":
			mountFiles(t, path, v.ConfigMap.Mode, group, map[string][]byte{"tallygate.yaml": []byte(config)})
		case v.ConfigMap != nil:
			mountFiles(t, path, v.ConfigMap.Mode, group, map[string][]byte{"ca.crt": testpki.NewCA(v.Name).CertPEM()})
		case v.Secret != nil:
			pair := testpki.SelfSigned(v.Name, testpki.DNS("as.example.com"), testpki.DNS("mtls.as.example.com"), testpki.DNS("api.example.com"))
			mountFiles(t, path, v.Secret.Mode, group, map[string][]byte{"tls.crt": pair.CertPEM(), "tls.key": pair.KeyPEM()})
		default: // a volume whose root folder fsGroup may write to
			if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, 0, group), os.Chmod(path, 0o775|fs.ModeSetgid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.copyBinary(t)
	return m
}

// merged returns the merged user: each field has the first value that is set.
func merged(all ...chartUser) (m chartUser) {
	for _, u := range slices.Backward(all) {
		for to, from := range map[**uint32]*uint32{&m.User: u.User, &m.Group: u.Group, &m.FSGroup: u.FSGroup} {
			if from != nil {
				*to = from
			}
		}
	}
	return m
}

// mountFiles makes the folder of a Secret or ConfigMap: files in a folder of their own, to which ..data
// leads, and a symlink for each.
func mountFiles(t *testing.T, path string, mode os.FileMode, group int, files map[string][]byte) {
	t.Helper()
	const data = "..2026_11_30_21_00_00.1"
	errs := []error{os.MkdirAll(filepath.Join(path, data), 0o755), os.Symlink(data, filepath.Join(path, "..data"))}
	for name, content := range files {
		file := filepath.Join(path, data, name)
		errs = append(errs, os.WriteFile(file, content, 0o600), os.Chown(file, 0, group), os.Chmod(file, mode),
			os.Symlink(filepath.Join("..data", name), filepath.Join(path, name)))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// copyBinary puts the gate where the pod's user may run it.
func (m mounted) copyBinary(t *testing.T) {
	t.Helper()
	program, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.root, "tallygate"), program, 0o755); err != nil {
		t.Fatal(err)
	}
}

// run starts the gate, stops it when all listeners are open, and returns its log.
func (m mounted) run(t *testing.T) (string, error) {
	t.Helper()
	log := &gatetest.Log{}
	command := exec.CommandContext(t.Context(), filepath.Join(m.root, "tallygate"), "serve", "--config", m.root+"/etc/tallygate/config/tallygate.yaml")
	command.Dir, command.Env, command.Stderr = "/", []string{}, log
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &m.user}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	gatetest.Within(patience, func() bool {
		return bytes.Contains(log.Bytes(), []byte(`"listener":"admin"`)) || len(ended) > 0
	})
	_ = command.Process.Signal(os.Interrupt) // without drain.delay
	return log.String(), <-ended
}

// podIn returns the pod of the Deployment among rendered manifests.
func podIn(t *testing.T, rendered []byte) chartPod {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(rendered))
	for {
		var object struct {
			Kind string `yaml:"kind"`
			Spec struct {
				Template struct {
					Spec chartPod `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		}
		if err := decoder.Decode(&object); err != nil {
			t.Fatalf("no Deployment: %v\n%s", err, rendered)
		}
		if object.Kind == "Deployment" {
			return object.Spec.Template.Spec
		}
	}
}

func (p chartPod) pathOf(t *testing.T, volume string) string {
	t.Helper()
	for _, m := range p.Containers[0].VolumeMounts {
		if m.Name == volume {
			return m.Path
		}
	}
	t.Fatalf("the gate does not mount %s", volume)
	return ""
}
