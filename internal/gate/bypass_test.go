package gate

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/internal/gatetest"
)

const bypassWarning = `"msg":"the port of an API on loopback is open at other addresses too: a client may go around the gate"`

// otherLoopback stands for an address by which other machines reach this machine.
var otherLoopback = netip.MustParseAddr("127.0.0.2")

// openListenersBesideOther is openListeners, with a further listener on the port of the API at otherLoopback.
func openListenersBesideOther(t *testing.T) (listeners map[string]net.Listener, addresses map[string]string, other net.Listener) {
	t.Helper()
	var err error
	for range 20 {
		listeners, addresses = openListeners(t)
		_, port, _ := net.SplitHostPort(addresses["api"])
		if other, err = net.Listen("tcp", net.JoinHostPort(otherLoopback.String(), port)); err == nil {
			return listeners, addresses, other
		}
		for _, l := range listeners { // another process has the port
			_ = l.Close()
		}
	}
	gatetest.SkipOutsideCI(t, err) // macOS has 127.0.0.1 alone
	return nil, nil, nil
}

// serveBypass runs a gate of the demo's configuration that tries otherLoopback, and returns it when its
// listeners are open.
func serveBypass(t *testing.T, listeners map[string]net.Listener, addresses map[string]string, waits []time.Duration) (*Gate, *gatetest.Log) {
	t.Helper()
	g, _ := newTestGate(t, addresses)
	log := &gatetest.Log{}
	g.telemetry.log = NewLog(log, &g.level)
	g.bypass.own = func() []netip.Addr { return []netip.Addr{otherLoopback, netip.MustParseAddr("127.0.0.3")} }
	g.bypass.waits = waits
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- g.Run(ctx, func(name, _ string) (net.Listener, error) { return listeners[name], nil })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	log.Wait(t, `"listener":"admin"`)
	return g, log
}

// A gate warns once when the port of its API on loopback is open at another address, also when the API
// starts after the gate. It stays ready.
func TestBypassWarning(t *testing.T) {
	listeners, addresses, other := openListenersBesideOther(t)
	defer func() { _ = listeners["api"].Close() }()
	_ = other.Close() // the port is free
	g, log := serveBypass(t, listeners, addresses, slices.Repeat([]time.Duration{time.Millisecond}, 60_000))
	_, port, _ := net.SplitHostPort(addresses["api"])
	gauge := func() float64 { return testutil.ToFloat64(g.bypass.reachable.WithLabelValues("accounts")) }
	gatetest.Eventually(t, "an attempt", func() bool { return testutil.CollectAndCount(g.bypass.reachable) == 2 })
	if text := log.String(); strings.Contains(text, bypassWarning) || gauge() != 0 {
		t.Fatalf("with an API on 127.0.0.1 alone the gate logs %s, and the metric is %v, want no warning and 0", text, gauge())
	}
	late, err := net.Listen("tcp", other.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	line := log.Wait(t, `"api":"payments"`)
	want := `"upstream":"127.0.0.1:` + port + `","addresses":["127.0.0.2:` + port + `"]`
	if !strings.Contains(line, bypassWarning) || !strings.Contains(line, want) || !strings.Contains(line, `"level":"WARN"`) {
		t.Errorf("the gate logs %s, want a warning with %s", line, want)
	}
	gatetest.EventuallyEqual(t, "tallygate_api_reachable_past_gate", 1, gauge)
	g.bypass.restart() // as a reload does
	gatetest.Eventually(t, "the restart", func() bool { return len(g.bypass.again) == 0 })
	if n := strings.Count(log.String(), bypassWarning); n != 2 { // one for each API of the demo
		t.Errorf("%d warnings, want 2", n)
	}
	if err := g.ready(); err != nil {
		t.Errorf("ready() = %v, want nil", err)
	}
}

// The gate does not warn of its own ports.
func TestBypassOwnListener(t *testing.T) {
	listeners, addresses, other := openListenersBesideOther(t)
	defer func() { _ = listeners["api"].Close() }()
	_ = listeners["partners"].Close()
	listeners["partners"] = other
	g, log := serveBypass(t, listeners, addresses, nil)
	g.findBypass(t.Context()) // not at the same time as checkBypass, which has no attempts
	if strings.Contains(log.String(), bypassWarning) {
		t.Errorf("the gate logs %s, want no warning of its own listener", log)
	}
}
