package main

// caddy ends mutual TLS in Go, with the standard library's server and reverse proxy.
var caddy = peer{
	name:     "caddy",
	title:    "Caddy",
	does:     "mTLS only",
	command:  "caddy",
	packages: []string{"caddy"},
	version:  []string{"version"},
	configure: func(w *world, v variant, dir, address string) ([]string, error) {
		file, err := render(dir, "Caddyfile", caddyConfig, w.values(v, dir, address))
		return []string{"caddy", "run", "--config", file, "--adapter", "caddyfile"}, err
	},
}

// 32 idle connections to the upstream, the default, would be fewer than the load needs.
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
	reverse_proxy {{.World.Upstream}} {
		transport http {
			keepalive_idle_conns_per_host 128
		}
	}
}
`
