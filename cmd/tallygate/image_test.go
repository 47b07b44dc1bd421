package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"debug/elf"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// An instruction of a Dockerfile.
type instruction struct{ Name, Rest string }

// dockerfile returns the stages of the Dockerfile, each with its FROM first.
func dockerfile(t *testing.T) (stages [][]instruction) {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if name == "FROM" {
			stages = append(stages, nil)
		}
		if len(stages) == 0 {
			t.Fatalf("%s before any FROM", name)
		}
		last := len(stages) - 1
		stages[last] = append(stages[last], instruction{name, strings.Join(strings.Fields(rest), " ")})
	}
	return stages
}

// rest returns the arguments of the only instruction with a name, or "".
func rest(t *testing.T, stage []instruction, name string) (found string) {
	t.Helper()
	for _, i := range stage {
		if i.Name == name {
			if found != "" {
				t.Errorf("%s is there twice", name)
			}
			found = i.Rest
		}
	}
	return found
}

// The parts of the Dockerfile that can be checked without a build.
func TestDockerfile(t *testing.T) {
	stages := dockerfile(t)
	if len(stages) != 2 {
		t.Fatalf("%d stages", len(stages))
	}
	build, final := stages[0], stages[1]
	// The toolchain in go.mod compiles, whatever version the image has, because GOTOOLCHAIN is not local as in the image.
	if from := `^--platform=\$BUILDPLATFORM golang:1\.\d+\.\d+@sha256:[0-9a-f]{64} AS build$`; !regexp.MustCompile(from).MatchString(build[0].Rest) {
		t.Errorf("the binary is built by %q, want %q", build[0].Rest, from)
	}
	if got := rest(t, build, "ENV"); got != "GOTOOLCHAIN=auto" {
		t.Errorf("the build stage has ENV %q, want GOTOOLCHAIN=auto", got)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{buildLine(t), licensesLine(t)} {
		line = strings.NewReplacer(" GOOS=${TARGETOS} GOARCH=${TARGETARCH}", "", " -buildvcs=false", "", "${VERSION}", "$(VERSION)",
			"/out/tools/licenses", "go run ./internal/licenses", "/out/", "").Replace(line)
		if !bytes.Contains(makefile, []byte("\t"+line+"\n")) {
			t.Errorf("the Makefile does not build by %s", line)
		}
	}
	var copies []string
	for _, i := range final {
		switch i.Name {
		case "COPY":
			copies = append(copies, i.Rest)
		case "RUN", "ADD", "VOLUME", "SHELL", "ENV":
			t.Errorf("the image has a %s", i.Name)
		}
	}
	want := []string{
		"--from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
		"--from=build /out/licenses /licenses",
		"--from=build /out/tallygate.cdx.json /sbom/tallygate.cdx.json",
		"--from=build /out/tallygate /tallygate",
	}
	if diff := cmp.Diff(want, copies); diff != "" {
		t.Errorf("what the image has (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"FROM": "scratch", "USER": "65532:65532",
		"ENTRYPOINT": `["/tallygate"]`, "CMD": `["serve", "--config", "/etc/tallygate/tallygate.yaml"]`,
	} {
		if got := rest(t, final, name); got != want {
			t.Errorf("%s %s, want %s", name, got, want)
		}
	}
}

// buildLine is the Dockerfile's command that builds the binary.
func buildLine(t *testing.T) string {
	t.Helper()
	return runLine(t, "-o /out/tallygate ./cmd/tallygate")
}

// licensesLine is the Dockerfile's command that collects licence texts.
func licensesLine(t *testing.T) string { t.Helper(); return runLine(t, "/out/tools/licenses -o") }

// runBuild runs a command of the Dockerfile's build stage for a platform, in a folder, with /out replaced by out.
func runBuild(t *testing.T, line, folder, out, platform string) {
	t.Helper()
	system, processor, _ := strings.Cut(platform, "/")
	command := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(line, "/out/", out+"/"))
	command.Dir = folder
	command.Env = append(os.Environ(), "VERSION=v1.2.3-image", "TARGETOS="+system, "TARGETARCH="+processor)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, output)
	}
}

// runLine returns the first command of the build stage that contains text.
func runLine(t *testing.T, text string) string {
	t.Helper()
	for _, i := range dockerfile(t)[0] {
		if i.Name == "RUN" && strings.Contains(i.Rest, text) {
			return i.Rest
		}
	}
	t.Fatalf("the Dockerfile runs no %q", text)
	return ""
}

// TestImage runs the commands of the Dockerfile that build the binary, the licence texts and the SBOM, and runs the
// binary like the image: with its entry point, health check and user, in a root folder that holds only certificate
// authorities and a configuration.
func TestImage(t *testing.T) {
	t.Parallel()
	notShort(t)
	if runtime.GOOS != "linux" {
		gatetest.SkipOutsideCI(t, "images are of Linux")
	}
	root, out := t.TempDir(), t.TempDir()
	platform := "linux/" + runtime.GOARCH
	runBuild(t, buildLine(t), "../..", out, platform)
	program := filepath.Join(out, "tallygate")
	checkStatic(t, program)
	checkLicenses(t, program, out)
	checkSBOM(t, program, out)
	checkReproducible(t, program)
	checkSize(t, out)
	if err := os.Rename(program, filepath.Join(root, "tallygate")); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		gatetest.SkipOutsideCI(t, "only root may have another root")
	}
	fillRoot(t, root)
	var version buildinfo.Info
	output, err := inRoot(t, root, "version", "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(output, &version)
	}
	if err != nil || version.Version != "v1.2.3-image" {
		t.Fatalf("version: %v, %s%s", err, output, stderrOf(err))
	}
	// Online, for it then verifies a server by the image's authorities.
	if output, err := inRoot(t, root, "check", "--online", "--config", "/etc/tallygate/tallygate.yaml").CombinedOutput(); err != nil {
		t.Fatalf("check: %v\n%s", err, output)
	}
	serveInRoot(t, root)
}

// checkStatic checks that a program is statically linked.
func checkStatic(t *testing.T, file string) {
	t.Helper()
	program, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %q, %v", libraries, err)
	}
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("it needs an interpreter")
		}
	}
}

// fillRoot copies the files of the image into root, adds a test authority, and writes a
// configuration with a key set at a server that this authority certifies.
func fillRoot(t *testing.T, root string) {
	t.Helper()
	ca := testpki.NewCA("web")
	pair := ca.Leaf("as", testpki.IP("127.0.0.1"))
	keys := testpki.KeySet(testpki.NewSigner("ES256", "k1"))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(keys)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
	server.StartTLS()
	t.Cleanup(server.Close)
	for file, content := range map[string][]byte{
		"etc/ssl/certs/ca-certificates.crt": ca.CertPEM(),
		"etc/tallygate/tls.crt":             pair.CertPEM(),
		"etc/tallygate/tls.key":             pair.KeyPEM(),
		"etc/tallygate/northwind.crt":       testpki.NewCA("northwind").CertPEM(),
		"etc/tallygate/tallygate.yaml": []byte(`
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: tls.crt, key: tls.key}}}
authorization_servers:
  - {name: partners, issuer: https://as.example.com, audiences: [https://api.example.com], key_set: {url: ` + server.URL + `}}
apis:
  - {name: accounts, hosts: [api.example.com], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /accounts}]}
partners:
  list: [{name: northwind, trust: [northwind.crt], applications: [{client_id: ledger, apis: [accounts]}]}]
admin: {address: "127.0.0.1:` + freePort(t) + `"}
`),
	} {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o444)); err != nil {
			t.Fatal(err)
		}
	}
}

// inRoot is a run of the image's entry point with args, or with the image's arguments.
func inRoot(t *testing.T, root string, args ...string) *exec.Cmd {
	t.Helper()
	final := dockerfile(t)[1]
	var entry, own []string
	if err := errors.Join(json.Unmarshal([]byte(rest(t, final, "ENTRYPOINT")), &entry), json.Unmarshal([]byte(rest(t, final, "CMD")), &own)); err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 {
		args = own
	}
	args = slices.Concat(entry, args)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Dir, command.Env = "/", []string{}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	return command
}

// serveInRoot starts the image with its default arguments, and stops it.
func serveInRoot(t *testing.T, root string) {
	t.Helper()
	command := inRoot(t, root)
	log, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var listening bool
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), `"listener":"admin"`) {
			listening = true
			checkHealth(t, root)
			if err := command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	if err := command.Wait(); err != nil || !listening {
		t.Errorf("serving: %v, listening: %t", err, listening)
	}
}

// checkHealth runs the image's health check until it succeeds, which is when the gate has the key set.
func checkHealth(t *testing.T, root string) {
	t.Helper()
	_, text, _ := strings.Cut(rest(t, dockerfile(t)[1], "HEALTHCHECK"), "CMD ")
	var check []string
	if err := json.Unmarshal([]byte(text), &check); err != nil || check[0] != "/tallygate" {
		t.Fatalf("HEALTHCHECK runs %q, %v, want a command of the image", text, err)
	}
	gatetest.Eventually(t, "the health check succeeds", func() bool { return inRoot(t, root, check[1:]...).Run() == nil })
}

// stderrOf returns the standard error of a program that failed with err.
func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}
