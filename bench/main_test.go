package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The program starts itself as load generator and as upstream.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "load" || os.Args[1] == "upstream") {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// Two small scenarios with tallygate alone, from the binary to the table.
func TestSmoke(t *testing.T) {
	t.Parallel()
	var output, table strings.Builder
	s, err := parseSettings([]string{"-scenarios", "keep-alive-es256,idle", "-peers", "tallygate", "-rounds", "1", "-duration", "200ms"}, &output)
	if err != nil {
		t.Fatal(err)
	}
	s.idle, s.settle, s.ages = 20, 10*time.Millisecond, []time.Duration{idleAge}
	r, err := measure(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failures {
		t.Errorf("%+v", f)
	}
	if len(r.Measurements) != 2 {
		t.Fatalf("%d measurements, want 2; output:\n%s", len(r.Measurements), &output)
	}
	busy, idle := r.Measurements[0], r.Measurements[1]
	if busy.Done == 0 || busy.CPU <= 0 || busy.Memory <= 0 || busy.Latency.P50 <= 0 {
		t.Errorf("measured %+v", busy)
	}
	if idle.Done != 20 || idle.AtRest <= 0 || len(idle.Idle) != 1 {
		t.Errorf("measured %+v", idle)
	}
	if err := publish(r, s, &table); err != nil || !strings.Contains(table.String(), "KiB per idle mTLS connection") {
		t.Errorf("published %v\n%s", err, &table)
	}
}

// first denies the first n requests.
func first(n int32) func(*http.Request) bool {
	var requests atomic.Int32
	return func(*http.Request) bool { return requests.Add(1) <= n }
}

// quiet is for servers whose handshakes fail on purpose.
var quiet = log.New(io.Discard, "", 0)

// once denies all requests except the first.
func once() func(*http.Request) bool {
	var requests atomic.Int32
	return func(*http.Request) bool { return requests.Add(1) > 1 }
}

// A peer is not measured unless it grants the valid request and refuses a request for each check that it
// claims.
func TestVerify(t *testing.T) {
	env, err := newEnvironment(t.TempDir(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer env.close()
	certificate, err := tls.LoadX509KeyPair(env.path("server.pem"), env.path("server-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(env.ca.Cert)
	mine := env.partners[0].pair.Cert
	for name, c := range map[string]struct {
		authentication tls.ClientAuthType
		size           int
		checks         []fault
		denies         func(*http.Request) bool
		late           bool
		want           string // in the error; "" for no error
	}{
		"mTLS only":            {tls.RequireAndVerifyClientCert, smallAnswer, nil, nil, false, ""},
		"denies everything":    {tls.RequireAndVerifyClientCert, smallAnswer, nil, func(*http.Request) bool { return true }, false, "a good request"},
		"another answer":       {tls.RequireAndVerifyClientCert, 7, nil, nil, false, "a good request"},
		"no mTLS":              {tls.NoClientCert, smallAnswer, nil, nil, false, "no certificate was answered with 200"},
		"any certificate":      {tls.RequireAnyClientCert, smallAnswer, nil, nil, false, "strange authority was answered with 200"},
		"tokens are not bound": {tls.RequireAndVerifyClientCert, smallAnswer, []fault{stolen}, nil, false, "another partner's token was answered with 200"},
		"signatures alone are not checked": {tls.RequireAndVerifyClientCert, smallAnswer, []fault{stolen, forged}, func(r *http.Request) bool {
			return !r.TLS.PeerCertificates[0].Equal(mine)
		}, false, string(forged) + " was answered with 200"},
		"ends after the first":     {tls.RequireAndVerifyClientCert, smallAnswer, nil, once(), false, "a good request"},
		"loads its routes late":    {tls.RequireAndVerifyClientCert, smallAnswer, nil, first(3), true, ""},
		"is late without a reason": {tls.RequireAndVerifyClientCert, smallAnswer, nil, first(3), false, "a good request"},
	} {
		t.Run(name, func(t *testing.T) {
			api := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
				if c.denies != nil && c.denies(in) {
					out.WriteHeader(http.StatusForbidden)
					return
				}
				_, _ = io.WriteString(out, strings.Repeat("x", c.size))
			}))
			api.Config.ErrorLog = quiet
			api.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: c.authentication, ClientCAs: authorities}
			api.StartTLS()
			defer api.Close()
			err := verify(t.Context(), env, &server{peer: peer{checks: c.checks, late: c.late}, variant: es256, address: api.Listener.Addr().String()})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
