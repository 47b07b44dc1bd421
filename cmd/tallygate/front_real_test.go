package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// proxied runs a front proxy from a configuration template in the gate's folder until the test
// ends. It returns when each address in ports accepts connections.
func (r *reloading) proxied(t *testing.T, file, template string, ports map[string]string, command string, args ...string) {
	t.Helper()
	for name, address := range ports {
		template = strings.ReplaceAll(template, "$"+name, address)
		r.addresses[strings.ToLower(name)] = address
	}
	r.check(os.WriteFile(filepath.Join(r.dir, file), []byte(template), 0o600))
	output := &gatetest.Log{}
	gatetest.NeedPrograms(t, command)
	process := exec.Command(command, args...)
	process.Dir, process.Stdout, process.Stderr = r.dir, output, output
	r.check(process.Start())
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", command, output.Bytes())
		}
	})
	for _, address := range ports {
		gatetest.Eventually(t, command+" listens on "+address, func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
}

// free returns an unused address.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// combine joins a certificate and its key in one file, as HAProxy expects.
func (r *reloading) combine(name string) {
	r.t.Helper()
	r.check(os.WriteFile(filepath.Join(r.dir, name+"-both.pem"), append(r.pairs[name].CertPEM(), r.pairs[name].KeyPEM()...), 0o600))
}

// refusals are what partners get with the token good, by the certificate that they show.
var refusals = map[string]string{
	"borealis": "bound_to_other", // the token was stolen
	"":         "no_certificate",
	"stranger": "untrusted_certificate",
	"expired":  "expired_certificate",
}

// behind checks what partners get through a front proxy that does not verify certificates: the
// identity comes from the handshake, never from headers, and the gate verifies the certificate.
func (r *reloading) behind(t *testing.T, listener string, certificates []string, forged ...string) {
	t.Helper()
	call := func(certificate, h2 string, headers ...string) {
		t.Helper()
		args := []string{"-to", listener, "-cert", certificate, "-token", "good", "-h2=" + h2}
		for _, h := range headers {
			args = append(args, "-H", h)
		}
		r.check(r.call(append(args, "GET", "/accounts/7")))
	}
	for _, h2 := range []string{"false", "true"} {
		for _, headers := range [][]string{nil, forged} {
			call("northwind", h2, headers...)
			if err := r.granted(200); err != nil {
				t.Errorf("%s, as itself, with %d forged headers: %v", listener, len(headers), err)
			}
			received, _ := r.upstream.take()
			if text := string(received); !strings.Contains(text, "Tallygate-Thumbprint: "+r.pairs["northwind"].Thumbprint()) || strings.Contains(text, "mallory") {
				t.Errorf("%s: the upstream got\n%s", listener, text)
			}
			for _, certificate := range certificates {
				call(certificate, h2, headers...)
				if err := r.refused(401, refusals[certificate], "invalid_token"); err != nil {
					t.Errorf("%s, with %q and %d forged headers: %v", listener, certificate, len(headers), err)
				}
			}
		}
	}
}

const haproxyConfig = `
global
  log stderr format raw local0
defaults
  mode http
  timeout connect 10s
  timeout client 30s
  timeout server 30s
frontend certificates
  bind $CERTIFICATES ssl crt gate-both.pem alpn h2,http/1.1 ca-file northwind-ca.pem verify optional crt-ignore-err all ca-ignore-err all
  bind $BOTH ssl crt gate-both.pem alpn h2,http/1.1 ca-file northwind-ca.pem verify optional crt-ignore-err all ca-ignore-err all
  http-request del-header Client-Cert
  http-request del-header Client-Cert-Chain
  http-request set-header Client-Cert :%[ssl_c_der,base64]: if { ssl_c_used }
  use_backend both if { dst_port $BOTH_PORT }
  default_backend certificates
backend certificates
  server gate $GATE ssl crt lb-both.pem ca-file gate.pem verify required verifyhost api.example.test sni str(api.example.test)
backend both
  server gate $GATE source 127.0.0.2 send-proxy-v2 ssl crt lb-both.pem ca-file gate.pem verify required verifyhost api.example.test sni str(api.example.test)
frontend careless
  bind $CARELESS ssl crt gate-both.pem alpn h2,http/1.1
  default_backend careless
backend careless
  server gate $GATE ssl crt machine-both.pem ca-file gate.pem verify required verifyhost api.example.test sni str(api.example.test)
frontend second
  mode tcp
  bind $SECOND
  default_backend second
backend second
  mode tcp
  server gate $GATE source 127.0.0.2 send-proxy-v2
frontend first
  mode tcp
  bind $FIRST
  default_backend first
backend first
  mode tcp
  server gate $GATE source 127.0.0.2 send-proxy
`

// A real HAProxy in front passes certificates on (RFC 9440), over mutual TLS, with and without
// PROXY protocol; it also passes TLS through, with PROXY protocol.
func TestHAProxy(t *testing.T) {
	gatetest.NeedPrograms(t, "haproxy")
	t.Parallel()
	r := newFronted(t)
	for _, name := range []string{"gate", "lb", "machine"} {
		r.combine(name)
	}
	relayed := func(certificates string) {
		r.configure("listener:\n", "listener:\n  proxy_protocol: {trusted: [127.0.0.2]}\n", ownTLS, certificates)
	}
	relayed(passing("[rfc9440]", byName))
	r.serve()
	ports := map[string]string{"GATE": r.addresses["partners"]}
	for _, name := range []string{"CERTIFICATES", "BOTH", "CARELESS", "SECOND", "FIRST"} {
		ports[name] = free(t)
	}
	_, port, _ := net.SplitHostPort(ports["BOTH"])
	r.proxied(t, "haproxy.cfg", strings.ReplaceAll(haproxyConfig, "$BOTH_PORT", port), ports, "haproxy", "-db", "-f", "haproxy.cfg")
	forged := []string{r.clientCert("northwind"), "client-cert: mallory", "Client_Cert: mallory", "Client-Cert-Chain: " + strings.TrimPrefix(r.clientCert("borealis-ca"), "Client-Cert: "),
		`X-Forwarded-Client-Cert: Cert="mallory"`, "X-SSL-Client-Cert: mallory"}
	all := []string{"borealis", "", "stranger", "expired"}
	r.behind(t, "certificates", all, forged...)
	r.behind(t, "both", all, forged...)

	// It sends a body without a length on in chunks, and closes the connection after the body.
	for range 3 {
		r.check(r.call([]string{"-to", "certificates", "-cert", "northwind", "-token", "good", "-h2", "-body", "10", "-chunked", "POST", "/accounts/7"}))
		if err := r.granted(200); err != nil {
			t.Errorf("a body without a length: %v", err)
		}
	}

	// The handshakes are the proxy's, and counted as such.
	const handshakes = `tallygate_tls_handshakes_total{reason="%s",result="completed",version="TLS 1.3"}`
	if n, err := r.metric(fmt.Sprintf(handshakes, "none")); err != nil || n == 0 {
		t.Errorf("%v handshakes of front proxies, %v", n, err)
	}
	if n, err := r.metric(fmt.Sprintf(handshakes, "untrusted_certificate")); err == nil {
		t.Errorf("%v handshakes with certificates that do not count", n)
	}

	// One that the gate does not believe passes the client's own header on.
	r.check(r.call([]string{"-to", "careless", "-token", "good", "-H", r.clientCert("northwind"), "GET", "/accounts/7"}))
	if err := r.refused(401, "no_certificate", "invalid_token"); err != nil {
		t.Errorf("behind a proxy that is not trusted: %v", err)
	}

	// PROXY protocol names the client, of whom nothing else is known here.
	status, id := r.from(t, "127.0.0.7", "both", "northwind")
	if status != 200 {
		t.Errorf("from an address of its own: answered %d", status)
	}
	r.logged(t, id, "127.0.0.7")

	// The same where HAProxy passes TLS as it is.
	relayed(ownTLS)
	r.await("ok", 1)
	status, id = r.from(t, "127.0.0.8", "second", "northwind")
	if status != 200 {
		t.Errorf("through version 2: answered %d", status)
	}
	r.logged(t, id, "127.0.0.8")
	if status, _ = r.from(t, "127.0.0.8", "second", "stranger"); status != 401 {
		t.Errorf("a stranger through version 2: answered %d", status)
	}
	r.upstream.forget()
	if status, _ = r.from(t, "127.0.0.8", "first", "northwind"); status != 0 {
		t.Errorf("through version 1: answered %d", status)
	}
	if received, n := r.upstream.take(); n > 0 {
		t.Errorf("%d requests upstream:\n%s", n, received)
	}
	r.check(r.stop())
}

// from sends a request to a listener, from an address and with a certificate, and returns the
// status and request id; 0 if TLS fails.
func (r *reloading) from(t *testing.T, address, listener, certificate string) (status int, id string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{TLSClientConfig: r.client(certificate), DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request := accountRequest(ctx, r.addresses[listener], r.tokens["good"])
	answer, err := transport.RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			t.Errorf("nothing came: %v", err)
		}
		return 0, ""
	}
	_ = answer.Body.Close()
	return answer.StatusCode, answer.Header.Get("X-Request-Id")
}

const nginxConfig = `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
  access_log off;
  client_body_temp_path tmp;
  proxy_temp_path tmp;
  fastcgi_temp_path tmp;
  uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  server {
    listen $CERTIFICATES ssl http2;
    ssl_certificate gate.pem;
    ssl_certificate_key gate-key.pem;
    ssl_verify_client optional_no_ca;
    location / {
      proxy_pass https://$GATE;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection "";
      proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
      proxy_ssl_certificate lb.pem;
      proxy_ssl_certificate_key lb-key.pem;
      proxy_ssl_trusted_certificate gate.pem;
      proxy_ssl_verify on;
      proxy_ssl_name api.example.test;
      proxy_ssl_server_name on;
    }
  }
}
`

// A real nginx in front, which passes certificates on as percent-encoded PEM.
func TestNginx(t *testing.T) {
	gatetest.NeedPrograms(t, "nginx")
	t.Parallel()
	r := newFronted(t)
	r.configure(ownTLS, passing("[pem], pem_header: X-SSL-Client-Cert", byName))
	r.serve()
	ports := map[string]string{"GATE": r.addresses["partners"], "CERTIFICATES": free(t)}
	r.proxied(t, "nginx.conf", nginxConfig, ports, "nginx", "-p", r.dir, "-e", "stderr", "-c", filepath.Join(r.dir, "nginx.conf"))
	// It passes no expired certificate on, but answers itself.
	r.behind(t, "certificates", []string{"borealis", "", "stranger"}, "X-SSL-Client-Cert: "+r.pem("northwind"), "x-ssl-client-cert: mallory", "X_SSL_Client_Cert: mallory",
		r.clientCert("northwind"), `X-Forwarded-Client-Cert: Cert="mallory"`)
	r.check(r.stop())
}
