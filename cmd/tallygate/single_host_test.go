package main

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// A hosted gate has the command line of a file in deploy, with other paths.
type hosted struct {
	t         *testing.T
	dir       string // the folder of the configuration
	process   *exec.Cmd
	log       gatetest.Log
	addresses map[string]string
}

// start runs a command line and waits until the gate listens.
func (h *hosted) start(argv ...string) {
	h.t.Helper()
	h.process = exec.Command(argv[0], argv[1:]...)
	h.process.Stdout, h.process.Stderr = &h.log, &h.log
	if err := h.process.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = h.process.Process.Kill() })
	h.addresses = map[string]string{}
	h.log.Wait(h.t, `"listener":"admin"`)
	for _, m := range regexp.MustCompile(`"listener":"(\w+)","address":"[^"]*:(\d+)"`).FindAllSubmatch(h.log.Bytes(), -1) {
		h.addresses[string(m[1])] = "127.0.0.1:" + string(m[2])
	}
}

// calls fetches a token with Northwind's certificate and calls the API.
func (h *hosted) calls() string {
	h.t.Helper()
	file := func(name string) string { return filepath.Join(h.dir, name) }
	token, err := exec.CommandContext(h.t.Context(), binary(h.t), "token", "--metadata", "https://"+h.addresses["issuer"], "--ca", file("ca.pem"),
		"--cert", file("northwind.pem"), "--key", file("northwind-key.pem"), "--client-id", "northwind-ledger").Output()
	if err != nil {
		h.t.Fatal(err, stderrOf(err))
	}
	body, err := exec.CommandContext(h.t.Context(), "curl", "--silent", "--show-error", "--cacert", file("ca.pem"), "--cert", file("northwind.pem"), "--key", file("northwind-key.pem"),
		"-H", "Authorization: Bearer "+strings.TrimSpace(string(token)), "https://"+h.addresses["partners"]+"/accounts/7").Output()
	if err != nil {
		h.t.Fatal(err, stderrOf(err))
	}
	return string(body)
}

// stops sends SIGTERM and checks that the gate ends in time.
func (h *hosted) stops(within time.Duration) {
	h.t.Helper()
	if drain := config.Default().Drain; within <= drain.Delay+drain.Timeout {
		h.t.Errorf("the gate has %s to stop, want more than %s and %s", within, drain.Delay, drain.Timeout)
	}
	if err := h.process.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	if err := h.process.Wait(); err != nil {
		h.t.Errorf("the gate ended: %v\n%s", err, h.log.Bytes())
	}
}

// runBlock runs a tested block of docs/single-host.md in folder, with root in front of the paths outside it.
func runBlock(t *testing.T, number int, folder, root string) {
	t.Helper()
	gatetest.NeedPrograms(t, "curl", "python3")
	script := testedBlocks(t, "../../docs/single-host.md", 2)[number][1]
	script = regexp.MustCompile(`([ #])(/(?:usr|etc|var)/)`).ReplaceAllString(script, "${1}"+root+"${2}")
	// The group is there only after systemd-sysusers, which this machine does not run.
	script = "systemctl() { :; }; systemd-sysusers() { :; }\n" + strings.ReplaceAll(script, " -g tallygate", "")
	runShell(t, "bash", folder, script, nil)
}

// clone makes a folder with the files of a clone that the commands use, and with the program.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "deploy"), os.DirFS("../../deploy")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), filepath.Join(dir, "tallygate")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCompose runs the commands of docs/single-host.md, then the services of the compose file as it starts them: the API,
// the gate with its user's rights and its health check. Only paths and the API's port differ.
func TestCompose(t *testing.T) {
	t.Parallel()
	notShort(t)
	dir := clone(t)
	runBlock(t, 0, dir, "")
	folder := filepath.Join(dir, "deploy", "compose")
	text, err := os.ReadFile(filepath.Join(folder, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	moved := strings.NewReplacer("/etc/tallygate/", filepath.Join(folder, "gate")+"/", "/tallygate,", binary(t)+",", "/srv", filepath.Join(folder, "api"), `"8080"`, `"`+port+`"`)
	var file struct {
		Services map[string]struct {
			Command     []string
			Healthcheck struct{ Test []string }
			Grace       string `yaml:"stop_grace_period"`
		}
	}
	if err := yaml.Unmarshal([]byte(moved.Replace(string(text))), &file); err != nil {
		t.Fatal(err)
	}
	api := exec.Command(file.Services["api"].Command[0], file.Services["api"].Command[1:]...)
	if err := api.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = api.Process.Kill(); _ = api.Wait() }()
	gatetest.Eventually(t, "the API answers", func() bool {
		answer, err := http.Get("http://127.0.0.1:" + port + "/accounts/7")
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil
	})
	settings := filepath.Join(folder, "gate", "tallygate.yaml")
	edit(t, settings, `127\.0\.0\.1:8080`, "127.0.0.1:"+port)
	// Not 8443 on all addresses, because the pods of other tests listen at some of these addresses.
	edit(t, settings, `(listener:\n  address: ):\d+`, "${1}:"+freePort(t))
	edit(t, settings, `admin:.*`, `admin: {address: "127.0.0.1:`+freePort(t)+`"}`)
	gate := &hosted{t: t, dir: filepath.Dir(settings)}
	gate.start(append([]string{binary(t)}, file.Services["gate"].Command...)...)
	health := file.Services["gate"].Healthcheck.Test
	if health[0] != "CMD" {
		t.Fatalf("the health check is %q, want CMD and a command: the image has no shell", health)
	}
	gatetest.Eventually(t, "the health check succeeds", func() bool { return exec.Command(health[1], health[2:]...).Run() == nil })
	if got, want := gate.calls(), `{"id": 7, "balance": "120.50"}`+"\n"; got != want {
		t.Errorf("the API answers %q, want %q", got, want)
	}
	grace, err := time.ParseDuration(file.Services["gate"].Grace)
	if err != nil {
		t.Fatal(err)
	}
	gate.stops(grace)
}

// TestSystemd runs the commands of docs/single-host.md, with a folder as the root, and then the command lines
// of the unit that they install. systemd-analyze checks the unit.
func TestSystemd(t *testing.T) {
	t.Parallel()
	notShort(t)
	dir, root := clone(t), t.TempDir()
	runBlock(t, 1, dir, root)
	unit := readUnit(t, root+"/etc/systemd/system/tallygate.service")
	moved := strings.NewReplacer("/usr/local/", root+"/usr/local/", "/etc/", root+"/etc/")
	settings := root + "/etc/tallygate/tallygate.yaml"
	edit(t, settings, `admin:.*`, `admin: {address: "127.0.0.1:`+freePort(t)+`"}`)
	gate := &hosted{t: t, dir: filepath.Dir(settings)}
	gate.start(strings.Fields(moved.Replace(unit["ExecStart"]))...)
	reload := strings.ReplaceAll(unit["ExecReload"], "$MAINPID", strconv.Itoa(gate.process.Process.Pid))
	edit(t, settings, `accounts:read`, "accounts:view")
	runShell(t, "bash", dir, reload, nil)
	gate.log.Wait(t, "configuration reloaded")
	stop, err := time.ParseDuration(unit["TimeoutStopSec"])
	if err != nil {
		t.Fatal(err)
	}
	gate.stops(stop)
}

// TestUnit checks that systemd-analyze reports no fault of the unit and a low exposure.
func TestUnit(t *testing.T) {
	gatetest.NeedPrograms(t, "systemd-analyze")
	text, err := os.ReadFile("../../deploy/systemd/tallygate.service")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tallygate.service")
	if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte("/usr/local/bin/tallygate"), []byte("/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", file).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("verify: %v\n%s", err, output)
	}
	// The threshold is an exposure of 1.5.
	judged := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", file)
	if output, err := judged.CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, output)
	}
}

// readUnit returns the settings of a unit. A setting has its last value.
func readUnit(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	unit := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, is := strings.Cut(lines.Text(), "="); is && !strings.HasPrefix(name, "#") {
			unit[name] = value
		}
	}
	return unit
}

// edit replaces the matches of old in a file.
func edit(t *testing.T, file, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edited := regexp.MustCompile(old).ReplaceAll(text, []byte(replacement))
	if bytes.Equal(text, edited) {
		t.Fatalf("%s does not hold %s:\n%s", file, old, text)
	}
	if err := os.WriteFile(file, edited, 0o600); err != nil {
		t.Fatal(err)
	}
}
