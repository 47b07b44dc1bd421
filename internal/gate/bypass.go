package gate

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/bypass"
	"github.com/tallygate/tallygate/internal/httpserver"
)

// A bypassCheck finds APIs that this machine serves on loopback and at other addresses too. A client that
// reaches such an address goes around the gate.
type bypassCheck struct {
	own       func() []netip.Addr // returns the addresses to try; nil: there is no check
	waits     []time.Duration     // before each attempt
	again     chan struct{}       // a value restarts the attempts
	reachable *prometheus.GaugeVec
	warned    map[string]bool // the warnings that are already in the log
}

// bypassWaits are the times between the attempts after a start or reload. A native sidecar starts before its
// API, which can take minutes; later attempts would find only servers that an operator starts by hand.
var bypassWaits = []time.Duration{0, 10 * time.Second, time.Minute, 10 * time.Minute}

func newBypassCheck(registerer prometheus.Registerer) bypassCheck {
	b := bypassCheck{waits: bypassWaits, again: make(chan struct{}, 1), warned: make(map[string]bool)}
	b.reachable = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tallygate_api_reachable_past_gate",
		Help: "Whether the port of an API on this machine's loopback also accepts connections at another address of this machine, by API: 1 or 0.",
	}, []string{"api"})
	registerer.MustRegister(b.reachable)
	return b
}

// restart makes the check repeat all its attempts, with the configuration that a reload has set.
func (b *bypassCheck) restart() {
	select {
	case b.again <- struct{}{}:
	default: // an earlier restart has not begun yet
	}
}

// checkBypass tries the APIs on loopback at the machine's own addresses until ctx ends: a few times after
// the start, and after each reload. The result changes nothing but a warning and a metric.
func (g *Gate) checkBypass(ctx context.Context) {
	if g.bypass.own == nil {
		return
	}
	for {
		for _, wait := range g.bypass.waits {
			if !g.bypass.pause(ctx, wait) {
				break
			}
			g.findBypass(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.bypass.again:
		}
	}
}

// pause waits, and returns true. If ctx ends or a restart is due, it returns false at once.
func (b *bypassCheck) pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-b.again:
		b.restart()
		return false
	case <-timer.C:
		return true
	}
}

// findBypass tries each API on loopback once. It connects only to this machine's own addresses, and sends
// nothing.
func (g *Gate) findBypass(ctx context.Context) {
	cfg, own := g.current.Load().cfg, g.bypass.own()
	open := make(map[uint16][]string) // by port: the addresses at which it is open
	for i := range cfg.APIs {
		port, local := bypass.LoopbackPort(&cfg.APIs[i].Upstream.URL.URL)
		if _, tried := open[port]; !local || tried {
			continue
		}
		open[port] = nil
		for _, at := range bypass.Accepting(ctx, own, port) {
			if !g.listensAt(at) {
				open[port] = append(open[port], at.String())
			}
		}
	}
	if ctx.Err() != nil {
		return // the gate stops, so some addresses were not tried
	}
	g.bypass.reachable.Reset() // a reload may have removed an API
	for i := range cfg.APIs {
		if port, local := bypass.LoopbackPort(&cfg.APIs[i].Upstream.URL.URL); local {
			g.reportBypass(ctx, &cfg.APIs[i], open[port])
		}
	}
}

// reportBypass sets the metric of the API, and warns once of each set of addresses.
func (g *Gate) reportBypass(ctx context.Context, api *config.API, addresses []string) {
	gauge := g.bypass.reachable.WithLabelValues(string(api.Name))
	if len(addresses) == 0 {
		return
	}
	gauge.Set(1)
	if key := string(api.Name) + " " + strings.Join(addresses, " "); !g.bypass.warned[key] {
		g.bypass.warned[key] = true
		g.log.WarnContext(ctx, "the port of an API on loopback is open at other addresses too: a client may go around the gate",
			"api", string(api.Name), "upstream", api.Upstream.URL.Host, "addresses", addresses)
	}
}

// listensAt reports whether a listener of the gate is at the address.
func (g *Gate) listensAt(at netip.AddrPort) bool {
	return slices.ContainsFunc(g.servers, func(s *httpserver.Server) bool {
		own, err := netip.ParseAddrPort(s.Limiter.Addr().String())
		return err == nil && own.Port() == at.Port() && (own.Addr().IsUnspecified() || own.Addr().Unmap() == at.Addr())
	})
}
