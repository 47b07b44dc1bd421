package proxy

import (
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
)

func TestIsReserved(t *testing.T) {
	names := config.Default().IdentityHeaders
	names.Certificate = "Client-Cert"
	f := newHeaderRules(names, nil, config.Correlation{})
	tests := map[string]bool{
		"Tallygate-Partner": true, "tallygate-partner": true, "TALLYGATE_PARTNER": true, "Tallygate_Client-Id": true, // T-HDR-01, 02
		"Tallygate.Partner": true, "Tallygate~Partner": true, "Tallygate!Anything": true, "Tallygate-": true,
		"Client-Cert": true, "Client_cert": true, "Client-Cert-Chain": true, "X-Forwarded-Client-Cert": true, "Ssl_client_cert": true, "X-Ssl-Client-S-Dn": true, // T-CC-02
		"Client.cert_chain": true, "Client-Cert-Leaf": true, "X_client_cert": true, "X-Client-Cert-Chain": true, "X-Client-Certificate": true, "X_forwarded_client_cert": true,
		"X-Forwarded-Tls-Client-Cert": true, "X-Forwarded-Tls-Client-Cert-Info": true, "X_ssl_client_cert": true, "SSL_CLIENT_VERIFY": true, "Ssl-Client-Subject-Dn": true,
		"X-Amzn-Mtls-Clientcert-Leaf": true, "X-Arr-Clientcert": true, "Cf-Client-Cert-Der-Base64": true, "Wl_proxy_client_cert": true,
		"Forwarded": true, "X-Forwarded-For": true, "X_forwarded_host": true, "X-Real-Ip": true, "X-Forwarded": true, // T-SNI-10
		"Proxy": true, "PROXY": true, "Proxy-Note": false,
		"X-Original-Url": true, "X-Rewrite-Url": true, "X-Envoy-Original-Path": true, "X-Forwarded-Uri": true, // T-HDR-10
		"X-Http-Method-Override": true, "X-Http-Method": true, "X_method-Override": true, // T-HDR-14
		"Traceparent": true, "Baggage": true, "X-Request-Id": true, "X.request.id": true, // T-HDR-17
		"Authorization": true, "Proxy-Authorization": true, "Proxy_authorization": true, "Proxy-Authenticate": true, // T-HDR-13
		"Transfer_encoding": true, "Content.length": true, "Http2_settings": true,
		"Content-Length": true, "TE": true, "trailer": true, "Connection": true, "Keep-Alive": true, "Upgrade": true, "Host": true, "Expect": true,
		"Accept": false, "User-Agent": false, "Content-Type": false, "Cookie": false, "X_harmless": false,
		"Tallygat": false, "Xtallygate-Partner": false, "Client-Certificate-Note": false,
		strings.Repeat("X", 300): false, "Tallygate-" + strings.Repeat("x", 300): true,
	}
	for name, want := range tests {
		if got := f.isReserved(name); got != want {
			t.Errorf("isReserved(%q) = %v", name, got)
		}
	}
	passing := newHeaderRules(names, &config.CertificateHeader{PEMHeader: "Partner-Certificate"}, config.Correlation{})
	for _, name := range []string{"Partner-Certificate", "partner_certificate", "PARTNER.CERTIFICATE"} {
		if f.isReserved(name) || !passing.isReserved(name) {
			t.Errorf("isReserved(%s) = %t behind front proxies, %t otherwise, want true, false", name, passing.isReserved(name), f.isReserved(name))
		}
	}
}

// FuzzRemoveReserved checks that, for any header of a client, each identity header has only the gate's value,
// and that no other header resembles it.
func FuzzRemoveReserved(f *testing.F) {
	for _, seed := range []string{"Tallygate-Partner", "tallygate_partner", "TALLYGATE.CLIENT.ID", "X-Forwarded-For", "Accept", "Client_Cert", ""} {
		f.Add(seed, "value")
	}
	fields := newHeaderRules(config.Default().IdentityHeaders, nil, config.Correlation{})
	f.Fuzz(func(t *testing.T, name, value string) {
		h := append(fields.removeReserved([]http1.Field{{Name: name, Value: value}, {Name: name, Value: value}}), http1.Field{Name: "Tallygate-Partner", Value: "ours"})
		seen := 0
		for _, field := range h {
			// The loosest upstream there is: letters and digits alone.
			if fold(field.Name) == "tallygate-partner" {
				seen++
			}
		}
		if seen != 1 {
			t.Errorf("with header %q the upstream gets %d partner headers, want 1", name, seen)
		}
		if strings.HasPrefix(fold(name), "tallygate-") && len(h) != 1 {
			t.Errorf("reserved header %q is forwarded", name)
		}
	})
}
