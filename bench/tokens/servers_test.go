package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
)

const (
	serverName = "as.example.test"
	audience   = "https://api.example.test"
	clients    = 64
)

// An environment has what all servers share: certificates, and the clients with their names.
type environment struct {
	dir     string
	root    []byte // PEM, the anchor of the servers' certificate
	pairs   []*testpki.Pair
	program string // tallygate
	node    string // the folder with the packages of oidc-provider, "" without node
}

func clientID(i int) string { return "client-" + strconv.Itoa(i) }

func clientName(i int) string { return clientID(i) + ".example.test" }

func newEnvironment(t *testing.T) *environment {
	t.Helper()
	env := &environment{dir: t.TempDir()}
	servers, partners := testpki.NewCA("Servers"), testpki.NewCA("Partners")
	env.root = servers.CertPEM()
	servers.Leaf("as", testpki.DNS(serverName)).Write(env.dir, "as")
	partners.Write(env.dir, "partners-ca")
	for i := range clients {
		env.pairs = append(env.pairs, partners.Leaf(clientID(i), testpki.DNS(clientName(i))))
	}
	env.program = filepath.Join(env.dir, "tallygate")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", env.program, "github.com/tallygate/tallygate/cmd/tallygate")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building tallygate: %v\n%s", err, out)
	}
	return env
}

// installNode installs the packages of oidc-provider.
func (env *environment) installNode(t *testing.T) {
	t.Helper()
	gatetest.NeedPrograms(t, "node", "npm")
	env.node = filepath.Join(env.dir, "oidc-provider")
	if err := os.CopyFS(env.node, os.DirFS("oidc-provider")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
	install.Dir = env.node
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
}

// A server is a running token endpoint.
type server struct {
	address  string
	process  int // the id of the root of its processes
	database int // the id of the root of its database's processes, 0 without a database
}

// A subject is a server with a format of tokens.
type subject struct {
	Name, Format string // the format is jwt or opaque
	start        func(t *testing.T, env *environment, format string) server
}

var subjects = []subject{
	{"tallygate on bbolt", "jwt", startOnFile}, {"tallygate on PostgreSQL", "jwt", startOnPostgreSQL}, {"oidc-provider in memory", "jwt", startNode},
	{"tallygate on bbolt", "opaque", startOnFile}, {"tallygate on PostgreSQL", "opaque", startOnPostgreSQL}, {"oidc-provider in memory", "opaque", startNode},
}

const issuerConfig = `
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: as.pem, key: as-key.pem}}}
authorization_servers:
  - {name: ours, issuer: "https://ADDRESS", audiences: [AUDIENCE]}
apis:
  - {name: accounts, hosts: [api.example.test], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /accounts, scopes: ["accounts:read"]}]}
issuer:
  issuer: https://ADDRESS
  address: ADDRESS
  audience: AUDIENCE
  max_token_lifetime: 1h
  STATE
  limits:
    per_client: {requests_per_second: 1000000, burst: 1000000}
    per_address: {requests_per_second: 1000000, burst: 1000000}
admin: {address: "127.0.0.1:0"}
drain: {delay: 0s, timeout: 1s}
partners:
  list:
    - name: northwind
      trust: [partners-ca.pem]
      applications:
`

func startOnFile(t *testing.T, env *environment, format string) server {
	t.Helper()
	return env.startTallygate(t, format, "state: "+t.TempDir())
}

// startOnPostgreSQL starts a database too. The server syncs its files, as in production.
func startOnPostgreSQL(t *testing.T, env *environment, format string) server {
	t.Helper()
	database := testpostgres.Start(t, "fsync=on", "full_page_writes=on", "max_wal_size=1GB", "shared_buffers=128MB")
	key := filepath.Join(t.TempDir(), "encryption.key")
	gatetest.WriteFile(t, key, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))
	s := env.startTallygate(t, format, fmt.Sprintf("database: {url: %q, encryption_keys: [%s], insecure_sslmode: disable}", database.Database(), key))
	text, err := os.ReadFile(filepath.Join(database.Folder(), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if s.database, err = strconv.Atoi(first); err != nil {
		t.Fatal(err)
	}
	return s
}

func (env *environment) startTallygate(t *testing.T, format, state string) server {
	t.Helper()
	address := freeAddress(t)
	var config strings.Builder
	config.WriteString(strings.NewReplacer("ADDRESS", address, "AUDIENCE", audience, "STATE", state).Replace(issuerConfig))
	for i := range clients {
		fmt.Fprintf(&config, "        - {client_id: %s, certificate: {san_dns: %s}, apis: [accounts], scopes: [\"accounts:read\"], token_format: %s}\n", clientID(i), clientName(i), format)
	}
	// Paths in the configuration are relative to its folder.
	file := filepath.Join(env.dir, fmt.Sprintf("tallygate-%s.yaml", address[strings.LastIndexByte(address, ':')+1:]))
	gatetest.WriteFile(t, file, []byte(config.String()))
	return run(t, address, exec.Command(env.program, "serve", "--config", file))
}

func startNode(t *testing.T, env *environment, format string) server {
	t.Helper()
	if env.node == "" {
		t.Fatal("the packages of oidc-provider are not installed")
	}
	names := map[string]string{}
	for i := range clients {
		names[clientID(i)] = clientName(i)
	}
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	command := exec.Command("node", "server.mjs")
	command.Dir = env.node
	command.Env = append(os.Environ(), "NODE_ENV=production", "PORT="+address[strings.LastIndexByte(address, ':')+1:], "FORMAT="+format,
		"CERT="+filepath.Join(env.dir, "as.pem"), "KEY="+filepath.Join(env.dir, "as-key.pem"), "CA="+filepath.Join(env.dir, "partners-ca.pem"), "CLIENTS="+string(list))
	return run(t, address, command)
}

// run starts a server, which ends with the test, and waits until it accepts connections.
func run(t *testing.T, address string, command *exec.Cmd) server {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if text, _ := os.ReadFile(output.Name()); t.Failed() {
			t.Logf("the end of the output of %s:\n%s", filepath.Base(command.Path), text[max(0, len(text)-2000):])
		}
		_ = output.Close()
	})
	gatetest.Eventually(t, "listening at "+address, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return server{address: address, process: command.Process.Pid}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
