package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
)

// A fleet is two issuers with one PostgreSQL database, and sidecars that follow the issuers' feeds of
// revocations. Each is a process of its own, with an upstream of its own.
type fleet struct {
	*stateful // the folder and the certificates; it has no process
	program   string
	database  string    // the lines of the issuers' settings
	entrance  *tcpRelay // the address in the issuer identifier, in front of both issuers
	feeds     []*tcpRelay
	issuers   []*stateful
	sidecars  []*sidecar
	targets   []target
	operator  *http.Client
}

// A target is a token, an application, a partner or a certificate that a test revokes. Each target has a
// token of its own, which the revocation revokes too.
type target struct {
	kind        string // token, application, partner or certificate
	name        string
	clientID    string
	partner     string
	certificate *testpki.Pair
	token       string
}

var fleetKinds = []string{"token", "application", "partner", "certificate"}

// newFleet starts the database and the issuers. number is the number of targets, in turn of each kind.
func newFleet(t *testing.T, number int) *fleet {
	t.Helper()
	server := testpostgres.Start(t)
	return newFleetOn(t, number, server.Database())
}

func newFleetOn(t *testing.T, number int, database config.DatabaseURL) *fleet {
	t.Helper()
	f := &fleet{stateful: newStateful(t), program: binary(t)}
	internal := testpki.NewCA("Internal Root")
	internal.Write(f.dir, "internal-ca")
	operations := testpki.NewCA("Operations Root")
	operations.Write(f.dir, "operations-ca")
	f.pairs["sidecar"] = internal.Leaf("sidecar", testpki.DNS("sidecar.internal.example"))
	f.pairs["operator"] = operations.Leaf("operator", testpki.DNS("operator.internal.example"))
	f.pairs["sidecar"].Write(f.dir, "sidecar")
	for i := range number {
		x := target{kind: fleetKinds[i%4], name: fmt.Sprintf("%s-%d", fleetKinds[i%4], i), partner: "northwind"}
		x.clientID = x.name
		if x.kind == "partner" {
			x.partner = x.name
		}
		x.certificate = f.pairs["northwind-ca"].Leaf(x.name, testpki.DNS(x.name+".northwind.example"))
		f.targets = append(f.targets, x)
	}
	// The last target is never revoked.
	f.targets = append(f.targets, target{kind: "spared", name: "spared", clientID: "spared", partner: "northwind",
		certificate: f.pairs["northwind-ca"].Leaf("spared", testpki.DNS("spared.northwind.example"))})
	f.operator = f.clientOf(f.pairs["operator"])
	t.Cleanup(f.operator.CloseIdleConnections)
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	gatetest.WriteFile(t, filepath.Join(f.dir, "encryption.key"), []byte(base64.StdEncoding.EncodeToString(key)))
	f.database = fmt.Sprintf("database: {url: %q, encryption_keys: [encryption.key], insecure_sslmode: disable}", database)
	f.issuers = []*stateful{f.replica(), f.replica()}
	for _, i := range f.issuers {
		f.feeds = append(f.feeds, newTCPRelay(t, i.issuerAddress))
	}
	f.entrance = newTCPRelay(t, f.issuers[0].issuerAddress, f.issuers[1].issuerAddress)
	for n, i := range f.issuers {
		gatetest.WriteFile(t, filepath.Join(f.dir, fmt.Sprintf("issuer-%d.yaml", n)), []byte(f.issuerConfig(i)))
	}
	for n := range f.issuers {
		f.startIssuer(n)
	}
	return f
}

func (f *fleet) startIssuer(n int) {
	f.t.Helper()
	f.check(f.issuers[n].start(f.program, filepath.Join(f.dir, fmt.Sprintf("issuer-%d.yaml", n))))
}

// A sidecar is a gate that follows the feeds.
type sidecar struct {
	*stateful
	name string
	mu   sync.Mutex
	open map[string]*http.Client // by name of the target
}

// addSidecar starts a sidecar. settings are the lines of its section revocations beside server, feeds and client_id.
func (f *fleet) addSidecar(settings ...string) *sidecar {
	f.t.Helper()
	s := &sidecar{stateful: f.replica(), name: fmt.Sprintf("sidecar-%d", len(f.sidecars)), open: map[string]*http.Client{}}
	gatetest.WriteFile(f.t, filepath.Join(f.dir, s.name+".yaml"), []byte(f.sidecarConfig(s, settings)))
	f.sidecars = append(f.sidecars, s)
	f.startSidecar(s)
	return s
}

func (f *fleet) startSidecar(s *sidecar) {
	f.t.Helper()
	f.check(s.start(f.program, filepath.Join(f.dir, s.name+".yaml")))
}

// awaitReady waits until all sidecars are ready, which they are once they know all revocations.
func (f *fleet) awaitReady() {
	f.t.Helper()
	for _, s := range f.sidecars {
		if !gatetest.Within(patience, func() bool { return s.ready() == http.StatusOK }) {
			f.t.Fatalf("%s is not ready after %s:\n%s", s.name, patience, s.log.Bytes())
		}
	}
}

// fetch gets a new token for a target from an issuer.
func (f *fleet) fetch(x *target, issuer int) {
	f.t.Helper()
	s := f.issuers[issuer]
	client := f.clientOf(x.certificate)
	defer client.CloseIdleConnections()
	status, answer := s.post(client, "/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {x.clientID}})
	if status != http.StatusOK {
		f.t.Fatalf("no token for %s: %d %v", x.name, status, answer)
	}
	x.token = answer["access_token"].(string)
}

func (f *fleet) fetchAll() {
	f.t.Helper()
	for i := range f.targets {
		f.fetch(&f.targets[i], i%2)
	}
}

// clientOf returns a client with a certificate. Its connections are for one server.
func (f *fleet) clientOf(pair *testpki.Pair) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: testpki.Pool(f.pairs["gate"]), Certificates: []tls.Certificate{pair.TLS()}},
	}}
}

// call requests an account at the sidecar for a target, on a connection that stays open, and returns the status
// and the reason. The status is 0 if the sidecar refuses or closes the connection, as with a revoked certificate.
func (s *sidecar) call(f *fleet, x *target) (int, string) {
	s.mu.Lock()
	client := s.open[x.name]
	if client == nil {
		client = f.clientOf(x.certificate)
		s.open[x.name] = client
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := accountRequest(ctx, s.addresses["partners"], x.token)
	r.URL.Path, r.Host = "/accounts", "api.example.com"
	response, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	_, reason, _ := strings.Cut(string(content), `"reason":"`)
	reason, _, _ = strings.Cut(reason, `"`)
	return response.StatusCode, reason
}

// hangUp closes the connections for a target.
func (s *sidecar) hangUp(x *target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if client := s.open[x.name]; client != nil {
		client.CloseIdleConnections()
		delete(s.open, x.name)
	}
}

// refused reports whether the sidecar refuses the target for good: with 401, or without a connection.
func refused(status int) bool { return status == http.StatusUnauthorized || status == 0 }

// notRefused calls the sidecar, and returns "" if the sidecar refuses the target and its upstream gets no request.
func (s *sidecar) notRefused(f *fleet, x *target) string {
	s.upstream.forget()
	status, reason := s.call(f, x)
	if _, requests := s.upstream.take(); !refused(status) || requests > 0 {
		return fmt.Sprintf("%s, %s: got %d %s and %d requests at the upstream, want 401 and none", s.name, x.name, status, reason, requests)
	}
	return ""
}

// eachSidecar calls do for every sidecar concurrently.
func (f *fleet) eachSidecar(do func(*sidecar)) {
	var group sync.WaitGroup
	for _, s := range f.sidecars {
		group.Go(func() { do(s) })
	}
	group.Wait()
}

// prime opens a connection for x to every sidecar and demands that all grant the request.
func (f *fleet) prime(x *target) {
	f.t.Helper()
	f.eachSidecar(func(s *sidecar) {
		if status, reason := s.call(f, x); status != http.StatusOK {
			f.t.Errorf("%s, %s before its revocation: got %d %s, want 200", s.name, x.name, status, reason)
		}
	})
}

// refusedByAll polls every sidecar until it refuses x, and returns the time from began to the first refusal of each.
func (f *fleet) refusedByAll(x *target, began time.Time) []time.Duration {
	f.t.Helper()
	took := make([]time.Duration, len(f.sidecars))
	var group sync.WaitGroup
	for i, s := range f.sidecars {
		group.Go(func() {
			for {
				status, reason := s.call(f, x)
				took[i] = time.Since(began)
				if refused(status) {
					break
				}
				if took[i] > patience {
					f.t.Errorf("%s still answers %s with %d %s, %s after its revocation", s.name, x.name, status, reason, patience)
					break
				}
				time.Sleep(5 * time.Millisecond) // a busy loop of each sidecar's client would take the CPU time of the sidecars
			}
			if fault := s.notRefused(f, x); fault != "" {
				f.t.Error(fault)
			}
			s.hangUp(x)
		})
	}
	group.Wait()
	return took
}
