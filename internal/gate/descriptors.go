package gate

import (
	"context"
	"log/slog"

	"github.com/tallygate/tallygate/config"
)

// fewDescriptors is the usual limit of a login shell on Linux. It leaves some 500 connections.
const fewDescriptors = 1024

// otherDescriptors is the number of file descriptors for everything except connections and
// requests: files, the log, the issuer's database, idle connections to upstreams and authorization
// servers.
const otherDescriptors = 512

// clampToFileLimit lowers the limits on connections and requests if together they could use all file
// descriptors. Without a free descriptor the gate could not reach upstreams, read files or answer
// probes. Each concurrent request may need a descriptor for its upstream. Connections get at least half
// of the descriptors. An eighth, or otherDescriptors if that is less, stays free for all other uses.
func (g *Gate) clampToFileLimit(descriptors int) {
	sum, requests := 0, g.current.Load().cfg.Listener.Limits.Requests
	for _, s := range g.servers {
		sum += s.Limiter.Max
	}
	others := min(otherDescriptors, descriptors/8)
	room := min(sum, max(descriptors-requests-others, descriptors/2))
	// MaxRequests also applies to later configurations, which may allow more requests.
	g.load.MaxRequests = max(1, descriptors-room-others)
	if room == sum && requests <= g.load.MaxRequests {
		return
	}
	for _, s := range g.servers {
		s.Limiter.Max = max(1, s.Limiter.Max*room/sum)
	}
	// The default limits suit large machines. Only limits that were asked for, or a machine that holds few
	// connections, are worth a warning.
	level := slog.LevelInfo
	defaults := config.Default().Listener.Limits
	if s := g.current.Load().cfg.Listener.Limits; s.Connections != defaults.Connections || s.Requests != defaults.Requests || descriptors < fewDescriptors {
		level = slog.LevelWarn
	}
	g.log.LogAttrs(context.Background(), level, "limits lowered on every listener: the file descriptor limit (RLIMIT_NOFILE) is too low",
		slog.Int("configured", sum), slog.Int("connections", room), slog.Int("requests", min(requests, g.load.MaxRequests)), slog.Int("descriptors", descriptors))
}
