package mtls

import (
	"crypto/tls"
	"math/big"
	"runtime"
	"sync/atomic"
	"testing"
	"weak"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// RemovesTrust tells changes that remove trust from changes that only add it.
func TestRemovesTrust(t *testing.T) {
	a, b, c := testpki.NewCA("A"), testpki.NewCA("B"), testpki.NewCA("C")
	type anchors = map[config.Name][]*testpki.Pair
	before := load(t, false, anchors{"north": {a, b}, "south": {c}})
	reissued := reissue(a)
	for name, c := range map[string]struct {
		after *Trust
		lacks bool
		same  bool // no change removes anything in either direction
	}{
		"the same":               {load(t, false, anchors{"north": {a, b}, "south": {c}}), false, true},
		"another order":          {load(t, false, anchors{"north": {b, a}, "south": {c}}), false, true},
		"one more":               {load(t, false, anchors{"north": {a, b, c}, "south": {c}}), false, false},
		"one more partner":       {load(t, false, anchors{"north": {a, b}, "south": {c}, "east": {a}}), false, false},
		"self-signed ones too":   {load(t, true, anchors{"north": {a, b}, "south": {c}}), false, false},
		"one less":               {load(t, false, anchors{"north": {a}, "south": {c}}), true, false},
		"one partner less":       {load(t, false, anchors{"north": {a, b, c}}), true, false},
		"for another partner":    {load(t, false, anchors{"north": {a, c}, "south": {b}}), true, false},
		"another, with that key": {load(t, false, anchors{"north": {reissued, b}, "south": {c}}), true, false},
	} {
		if lacks, same := c.after.RemovesTrust(before), !c.after.RemovesTrust(before) && !before.RemovesTrust(c.after); lacks != c.lacks || same != c.same {
			t.Errorf("%s: lacks %t, same %t; want %t, %t", name, lacks, same, c.lacks, c.same)
		}
	}
	if !before.RemovesTrust(load(t, true, anchors{"north": {a, b}, "south": {c}})) {
		t.Error("without self-signed ones, nothing lacks")
	}
}

// reissue returns another certificate of the authority a, with the same name and key.
func reissue(a *testpki.Pair) *testpki.Pair {
	again := *a.Cert
	again.SerialNumber = big.NewInt(42)
	return &testpki.Pair{Cert: testpki.Certify(&again, &again, a.Key.Public(), a.Key), Key: a.Key}
}

// After a reload, open connections are verified by the next Trust, and no connection keeps the previous Trust
// alive. LoadTrust returns the previous Trust if nothing has changed.
func TestLoadTrustAfter(t *testing.T) {
	a, b := testpki.NewCA("A"), testpki.NewCA("B")
	type anchors = map[config.Name][]*testpki.Pair
	open := connected(chain(a.Leaf("a")))
	judge := func(trust *Trust, want access.Reason) {
		t.Helper()
		for range 2 {
			_, err := trust.Client(open)
			if got := reason(err); got != want {
				t.Errorf("Client returned %s, want %s", got, want)
			}
		}
	}
	third, gone := func() (*Trust, [2]weak.Pointer[Trust]) {
		first := load(t, false, anchors{"north": {a, b}})
		judge(first, access.Granted)
		if again := loadAfter(t, first, false, anchors{"north": {b, a}}); again != first {
			t.Error("LoadTrust with the anchors in another order returned a new Trust, want the previous Trust")
		}
		second := loadAfter(t, first, false, anchors{"north": {b}})
		judge(second, access.UntrustedCertificate)
		judge(first, access.Granted) // for requests that still use first
		judge(second, access.UntrustedCertificate)
		return loadAfter(t, second, false, anchors{"north": {a}}), [2]weak.Pointer[Trust]{weak.Make(first), weak.Make(second)}
	}()
	judge(third, access.Granted)
	gatetest.Eventually(t, "the previous Trusts are collected, although a connection is open", func() bool {
		runtime.GC()
		return gone[0].Value() == nil && gone[1].Value() == nil
	})
	judge(third, access.Granted)
}

// The configuration of a connection keeps no Trust alive, and a handshake uses the current Trust.
func TestServerConfigKeepsNoTrust(t *testing.T) {
	ca := testpki.NewCA("A")
	var current atomic.Pointer[Trust]
	current.Store(load(t, false, map[config.Name][]*testpki.Pair{"north": {ca}}))
	settings := ServerConfig(current.Load, testpki.SelfSigned("gate").TLS(), config.TLS12, config.Handshake, NewHandshakes(prometheus.NewRegistry()))
	state := tls.ConnectionState{PeerCertificates: chain(ca.Leaf("a"))}
	if err := settings.VerifyConnection(state); err != nil {
		t.Error(err)
	}
	gone := weak.Make(current.Load())
	current.Store(load(t, false, nil))
	if err := settings.VerifyConnection(state); reason(err) != access.UntrustedCertificate {
		t.Errorf("judged %v", err)
	}
	gatetest.Eventually(t, "the previous Trust is collected, although its tls.Config is in use", func() bool {
		runtime.GC()
		return gone.Value() == nil
	})
	runtime.KeepAlive(settings)
}

// T-TLS-01, T-TLS-06, T-TLS-09: a ticket is valid at its own listener, after new settings and one rotation of
// keys, and not after InvalidateTickets.
func TestListenerTickets(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca, first, second := testpki.NewCA("Root"), testpki.SelfSigned("gate", testpki.IP("127.0.0.1")), testpki.SelfSigned("gate", testpki.IP("127.0.0.1"))
			roots := testpki.Pool(first, second)
			client := &tls.Config{
				RootCAs: roots, MaxVersion: version, Certificates: []tls.Certificate{ca.Leaf("a").TLS()},
				ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "127.0.0.1",
			}
			trust := load(t, false, map[config.Name][]*testpki.Pair{"northwind": {ca}})
			handshakes := NewHandshakes(prometheus.NewRegistry())
			var current atomic.Pointer[tls.Config]
			show := func(pair *testpki.Pair) {
				current.Store(ServerConfig(func() *Trust { return trust }, pair.TLS(), config.TLS12, config.Handshake, handshakes))
			}
			show(first)
			one, other := NewListener(current.Load, nil), NewListener(current.Load, nil)
			address, results := listen(t, one.Config())
			elsewhere, others := listen(t, other.Config())
			connect := func(step, to string, states chan result, resumed bool) tls.ConnectionState {
				t.Helper()
				if err := dial(t, to, client); err != nil {
					t.Fatalf("%s: %v", step, err)
				}
				r := <-states
				if r.err != nil || r.state.DidResume != resumed || len(r.state.PeerCertificates) != 1 || r.state.Version != version {
					t.Errorf("%s: %v, resumed %t, want %t; %d certificates", step, r.err, r.state.DidResume, resumed, len(r.state.PeerCertificates))
				}
				return r.state
			}
			connect("a first time", address, results, false)
			connect("again", address, results, true)
			connect("at the other listener", elsewhere, others, false)
			connect("there again", elsewhere, others, true)
			connect("back, with the other's ticket", address, results, false)
			show(second)
			connect("with another certificate in force", address, results, true)
			one.Rotate()
			connect("a day later", address, results, true)
			one.Rotate()
			one.Rotate()
			connect("days later", address, results, false)
			connect("again", address, results, true)
			one.InvalidateTickets()
			connect("forgotten", address, results, false)
			var seen [][]byte
			conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: client.Certificates, MaxVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range conn.ConnectionState().PeerCertificates {
				seen = append(seen, c.Raw)
			}
			_ = conn.Close()
			<-results
			if len(seen) != 1 || string(seen[0]) != string(second.Cert.Raw) {
				t.Error("a new connection got the old certificate, want the new one")
			}
		})
	}
}
