package main

import "os/user"

// apache checks tokens with mod_oauth2, which caches verified tokens.
var apache = peer{
	name:     "apache",
	title:    "Apache",
	setup:    "with mod_oauth2",
	does:     "mTLS, signature, iss, aud, exp, cnf",
	command:  "apache2",
	packages: []string{"apache2", "libapache2-mod-oauth2"},
	files:    []string{"/usr/lib/apache2/modules/mod_oauth2.so"},
	version:  []string{"-v"},
	checks:   []fault{stolen, forged, expired, otherIssuer, otherAPI},
	configure: func(env *environment, v variant, dir, address string) ([]string, error) {
		values := env.values(v, dir, address)
		if u, err := user.Current(); err == nil && u.Uid == "0" {
			values.User = "www-data" // Apache refuses to serve as root
		}
		file, err := render(dir, "apache.conf", apacheConfig, values)
		return []string{"-d", dir, "-f", file, "-DFOREGROUND"}, err
	},
}

// Apache has one process for each processor, as the other peers have workers, and enough threads in
// each process for all connections of the load. Processes are kept for the whole measurement. With
// jwks_uri, mod_oauth2 has no issuer to compare, so a Require compares issuer and audience.
const apacheConfig = `
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule oauth2_module /usr/lib/apache2/modules/mod_oauth2.so
{{with .User}}User {{.}}
Group {{.}}{{end}}
ServerName {{.Name}}
Listen {{.Address}}
ListenBacklog 4096
PidFile {{.Dir}}/pid
Mutex posixsem
ErrorLog /dev/stderr
LogLevel error
ServerLimit {{.Processors}}
StartServers {{.Processors}}
ThreadLimit 128
ThreadsPerChild 128
MaxRequestWorkers {{.Threads}}
MinSpareThreads 1
MaxSpareThreads {{.Threads}}
AsyncRequestWorkerFactor 64
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 120
Protocols h2 http/1.1
OAuth2Cache shm name=default&max_val_size=8192&max_entries=5000
SSLSessionCache none
<VirtualHost {{.Address}}>
  SSLEngine on
  SSLProtocol all -SSLv3 -TLSv1 -TLSv1.1
  SSLCertificateFile {{.Path "server.pem"}}
  SSLCertificateKeyFile {{.Path "server-key.pem"}}
  SSLCACertificateFile {{.Path "ca.pem"}}
  SSLVerifyClient require
  <Location />
    SSLOptions +StdEnvVars +ExportCertData
    AuthType oauth2
    OAuth2TokenVerify jwks_uri {{.Environment.AS}}/keys type=mtls&mtls.policy=required&verify.iss=skip&verify.exp=required&verify.iat=optional
    <RequireAll>
      Require oauth2_claim iss:{{.Issuer}}
      Require oauth2_claim aud:{{.Audience}}
    </RequireAll>
  </Location>
  ProxyPass / http://{{.Environment.Upstream}}/ keepalive=On
</VirtualHost>
`
