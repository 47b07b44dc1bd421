package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// tallygate is compared with all other peers. [build] makes its program.
var tallygate = peer{
	name:      "tallygate",
	title:     "tallygate",
	does:      "mTLS, signature, iss, aud, exp, cnf, application's certificate, allow-list, route",
	checks:    everyFault,
	configure: configureTallygate,
}

// All other settings have their defaults, also the log of granted requests. body_bytes allows the
// streamed bodies of 16 MB.
const tallygateConfig = `
listener:
  address: {{.Address}}
  certificate: {files: {certificate: {{.Path "server.pem"}}, key: {{.Path "server-key.pem"}}}}
  client_certificates: {trust: [{{.Path "ca.pem"}}]}
  limits: {connections: 50000, connections_per_address: 50000, body_bytes: 32MiB}
authorization_servers:
  - name: partners
    issuer: {{.Issuer}}
    audiences: [{{.Audience}}]
    algorithms: [{{.Algorithm}}]
    cache: {entries: 200000}
{{- if .Opaque}}
    tokens: opaque
    connection: {insecure_loopback_http: true}
    introspection:
      endpoint: {{.Environment.AS}}/introspect
      client_id: gate
      authentication: {method: client_secret_basic, secret_file: {{.Dir}}/secret}
{{- else}}
    key_set: {file: {{.Path "keys.json"}}}
{{- end}}
apis:
  - name: accounts
    hosts: [{{.Name}}]
    upstream: {url: "http://{{.Environment.Upstream}}"}
    routes:
      - {methods: [GET, POST], path: "/accounts/{id}"}
      - {methods: [POST], path: "/documents/{id}"}
      - {methods: [POST], path: "/uploads/{id}"}
      - {methods: [GET], path: "/downloads/{id}"}
  - name: payments
    hosts: [{{.Name}}]
    upstream: {url: "http://{{.Environment.Upstream}}"}
    routes:
      - {methods: [GET], path: "/payments/{id}"}
partners:
  list:
{{- range .Partners}}
    - name: {{.Name}}
{{- if .Trust}}
      trust: [{{.Trust}}]
{{- end}}
      applications:
{{- $dns := .DNS}}{{range .Applications}}
        - {client_id: {{.}}, {{if $dns}}certificate: {san_dns: {{$dns}}}, {{end}}apis: [accounts]}
{{- end}}
{{- end}}
admin: {address: "127.0.0.1:0"}
drain: {delay: 0s, timeout: 1s}
`

func configureTallygate(env *environment, v variant, dir, address string) ([]string, error) {
	if err := os.WriteFile(dir+"/secret", []byte("secret"), 0o600); err != nil {
		return nil, err
	}
	file, err := render(dir, "tallygate.yaml", tallygateConfig, env.values(v, dir, address))
	if err != nil {
		return nil, err
	}
	return []string{"serve", "--config", file}, nil
}

// build compiles tallygate from the parent module as a release is compiled, and returns the path of
// the binary and its version.
func build(ctx context.Context, dir string) (binary, version string, err error) {
	binary = dir + "/tallygate"
	output, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	version = strings.TrimSpace(string(output))
	if err != nil || version == "" {
		version = "unknown"
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/tallygate/tallygate/internal/buildinfo.Version="+version, "-o", binary, "github.com/tallygate/tallygate/cmd/tallygate")
	command.Dir = ".." // the parent module has dependencies that this module lacks
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("building tallygate: %w\n%s", err, output)
	}
	return binary, version, nil
}
