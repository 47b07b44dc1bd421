package main

// haproxy checks the least that a gate must check: the token's signature, issuer, audience, expiry
// and binding, and the allow-list of the application, which is a map file.
var haproxy = peer{
	name:     "haproxy",
	title:    "HAProxy",
	does:     "mTLS, signature, iss, aud, exp, cnf, allow-list",
	command:  "haproxy",
	packages: []string{"haproxy"},
	version:  []string{"-v"},
	checks:   everyFault,
	configure: func(env *environment, v variant, dir, address string) ([]string, error) {
		values := env.values(v, dir, address)
		if _, err := render(dir, "allow.map", haproxyMap, values); err != nil {
			return nil, err
		}
		file, err := render(dir, "haproxy.cfg", haproxyConfig, values)
		return []string{"-db", "-f", file}, err
	},
}

const haproxyMap = `{{range .Partners}}{{range .Applications}}{{.}} accounts
{{end}}{{end}}`

// HAProxy takes a condition as false when its value is absent, so each rule denies unless the condition
// is true. The algorithm is compared first, because jwt_verify uses the algorithm in the variable.
const haproxyConfig = `
global
  nbthread {{.Processors}}
  maxconn 9000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 10s
  timeout client 120s
  timeout server 30s
  timeout http-keep-alive 120s
  maxconn 9000
  http-reuse always
  option http-ignore-probes
frontend partners
  bind {{.Address}} ssl crt {{.Path "server-both.pem"}} alpn h2,http/1.1 ca-file {{.Path "ca.pem"}} verify required backlog 4096
  http-request set-var(txn.token) http_auth_bearer
  http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
  http-request deny deny_status 401 unless { var(txn.alg) -m str {{.Algorithm}} }
  http-request deny deny_status 401 unless { var(txn.token),jwt_verify(txn.alg,"{{.Path (printf "public-%s.pem" .Algorithm)}}") -m int 1 }
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.iss') -m str {{.Issuer}} }
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.aud') -m str {{.Audience}} }
  http-request set-var(txn.now) date
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }
  http-request set-var(txn.thumbprint) ssl_c_der,sha2(256),ub64enc
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.cnf.x5t#S256'),strcmp(txn.thumbprint) -m int 0 }
  http-request set-var(txn.client_id) var(txn.token),jwt_payload_query('$.client_id')
  http-request set-var(txn.api) var(txn.client_id),map_str({{.Dir}}/allow.map)
  acl accounts path_beg /accounts/ /documents/ /uploads/ /downloads/
  http-request deny deny_status 403 unless accounts { var(txn.api) -m str accounts }
  http-request del-header Authorization
  http-request set-header Client-Id %[var(txn.client_id)]
  default_backend api
backend api
  server api {{.Environment.Upstream}} pool-max-conn 128
`
