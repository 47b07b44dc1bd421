package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

const chart = "../../charts/tallygate"

// A chartVolume is the content of a volume in the chart's values.files.
type chartVolume struct {
	Secret    string `yaml:"secret"`
	ConfigMap string `yaml:"configMap"`
}

// TestChart renders the chart for each example, creates the files that Kubernetes would mount, and
// checks the resulting configuration with the binary.
func TestChart(t *testing.T) {
	notShort(t)
	helm := gatetest.Helm(t, "../..")
	files, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no values", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			rendered, err := exec.CommandContext(t.Context(), helm, "template", "r", chart, "--values", file).Output()
			if err != nil {
				t.Fatal(err, stderrOf(err))
			}
			root := t.TempDir()
			path := filepath.Join(root, "config", "tallygate.yaml")
			mountChart(t, root, file)
			text := strings.NewReplacer("/etc/tallygate", root, "/var/lib/tallygate", root).Replace(configOf(t, rendered))
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			output, err := exec.CommandContext(t.Context(), binary(t), "check", "--config", path).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, output, text)
			}
			checkAddresses(t, path)
		})
	}
}

// checkAddresses compares the addresses with the ports that the chart opens and probes.
func checkAddresses(t *testing.T, path string) {
	t.Helper()
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listener.Address != ":8443" || cfg.Admin.Address != ":9090" {
		t.Errorf("listening at %s and %s", cfg.Listener.Address, cfg.Admin.Address)
	}
	own := cfg.Issuer
	if own != nil && (own.Address != ":9443" || own.MTLSAlias != nil && own.MTLSAlias.Address != ":9444") {
		t.Errorf("the issuer listens at %s and %+v", own.Address, own.MTLSAlias)
	}
}

// The chart computes the grace period of a pod with the gate's defaults.
func TestChartDrain(t *testing.T) {
	drain := config.Default().Drain
	text, err := os.ReadFile(chart + "/templates/_stop.tpl")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]time.Duration{"delay": drain.Delay, "timeout": drain.Timeout} {
		if line := fmt.Sprintf("ternary $drain.%s %q (hasKey", key, want); !bytes.Contains(text, []byte(line)) {
			t.Errorf("the chart has another default of drain.%s than %s: no %q in _stop.tpl", key, want, line)
		}
	}
}

// mountChart creates the folders of the chart's volumes below root: a certificate Secret has
// tls.crt and tls.key, a password Secret has password, and a ConfigMap has ca.crt.
func mountChart(t *testing.T, root, valuesFile string) {
	t.Helper()
	content, err := os.ReadFile(valuesFile)
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Files map[string]chartVolume `yaml:"files"`
	}
	if err := yaml.Unmarshal(content, &values); err != nil {
		t.Fatal(err)
	}
	write := func(folder, name string, content []byte) {
		dir := filepath.Join(root, folder)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	secret := func(folder string) {
		pair := testpki.SelfSigned(folder, testpki.DNS("api.example.com"))
		write(folder, "tls.crt", pair.CertPEM())
		write(folder, "tls.key", pair.KeyPEM())
	}
	write("config", ".made", nil)
	secret("tls")
	for name, volume := range values.Files {
		folder := filepath.Join("files", name)
		if volume.ConfigMap != "" {
			write(folder, "ca.crt", testpki.NewCA(name).CertPEM())
			continue
		}
		secret(folder)
		write(folder, "password", []byte("not the one"))
		write(folder, "encryption", []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))
	}
}

// configOf returns the gate's configuration among rendered manifests.
func configOf(t *testing.T, rendered []byte) string {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(rendered))
	for {
		var object struct {
			Kind string            `yaml:"kind"`
			Data map[string]string `yaml:"data"`
		}
		if err := decoder.Decode(&object); err != nil {
			t.Fatalf("no ConfigMap: %v\n%s", err, rendered)
		}
		if object.Kind == "ConfigMap" {
			return object.Data["tallygate.yaml"]
		}
	}
}
