package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/testpki"
)

// padding returns about n bytes of text that does not compress.
func padding(n int) string {
	random := make([]byte, n*3/4)
	_, _ = rand.Read(random)
	return base64.RawURLEncoding.EncodeToString(random)
}

// ask sends requests with the tokens over four connections, perSecond requests a second in total.
func (d *drill) ask(ctx context.Context, perSecond float64, token func() string) {
	transport := &http.Transport{
		TLSClientConfig: d.client("borealis"), MaxConnsPerHost: 4,
		DialContext: (&net.Dialer{LocalAddr: d.localAddress(2)}).DialContext,
	}
	defer transport.CloseIdleConnections()
	d.paced(ctx, 4, perSecond, func(int) {
		request := accountRequest(ctx, d.addresses[gate.PartnersListener], token())
		d.sent.Add(1)
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	})
}

// localAddress returns the n-th source address for a net.Dialer.
func (d *drill) localAddress(n int) net.Addr {
	if source := d.source(n); source != nil {
		return source
	}
	return nil
}

// sendLargeTokens sends distinct tokens of 11 KB, half of them for another audience.
func (d *drill) sendLargeTokens(ctx context.Context) {
	pad := padding(8 << 10)
	var n atomic.Int64
	d.ask(ctx, 400, func() string {
		audience := "https://api.example.test"
		if n.Add(1)%2 == 0 {
			audience = "https://other.example.test"
		}
		claims := testpki.Bound("https://as.example.test", audience, "borealis-sync", d.pairs["borealis"], testpki.M{"pad": pad})
		return d.signers["good"].Token(claims)
	})
}

// sendOpaqueTokens sends distinct opaque tokens. The authorization server answers each with 0.9 MB.
func (d *drill) sendOpaqueTokens(ctx context.Context) {
	d.ask(ctx, 40, func() string { return "opaque-" + rand.Text() })
}

// largeIntrospection runs an introspection endpoint with large active responses, and returns its
// URL.
func (d *drill) largeIntrospection(t *testing.T) string {
	pad := padding(900_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims := testpki.Bound("https://appliance.example.test", "https://api.example.test", "borealis-sync", d.pairs["borealis"], testpki.M{"active": true, "pad": pad})
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(claims)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/introspect"
}

// showLongChains opens connections with untrusted certificate chains of 250 KB, which any client
// can make, and keeps them open for three seconds.
func (d *drill) showLongChains(ctx context.Context) {
	chain := d.pairs["stranger"].TLS()
	filler := testpki.SelfSigned("filler", testpki.DNS(strings.Repeat("x", 60)+"."+strings.Repeat("y", 60)+".test")).Cert.Raw
	for size := 0; size+len(filler)+3 < 250_000; size += len(filler) + 3 {
		chain.Certificate = append(chain.Certificate, filler)
	}
	settings := d.client("", "http/1.1")
	settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &chain, nil }
	d.paced(ctx, 240, 80, func(int) {
		dialer := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: d.localAddress(3)}, Config: settings}
		d.sent.Add(1)
		conn, err := dialer.DialContext(ctx, "tcp", d.addresses[gate.PartnersListener])
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
		_, _ = fmt.Fprint(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
}
