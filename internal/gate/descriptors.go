package gate

// otherDescriptors are those beside connections and requests: files that are read, the
// log, the issuer's state, idle connections to upstreams and authorization servers.
const otherDescriptors = 512

// clampToFileLimit lowers the bounds on connections and requests where so many could take all
// descriptors, for then no upstream could be reached, no file read and no probe answered.
// Each request in hand may have one, for its upstream. Connections get half at least, and an
// eighth stays for the others, however few there are.
func (g *Gate) clampToFileLimit(descriptors int) {
	sum, requests := 0, g.current.Load().cfg.Listener.Limits.Requests
	for _, s := range g.servers {
		sum += s.Limiter.Max
	}
	others := min(otherDescriptors, descriptors/8)
	room := min(sum, max(descriptors-requests-others, descriptors/2))
	// Also of a configuration that is still to come, which may allow more requests.
	g.load.MaxRequests = max(1, descriptors-room-others)
	if room == sum && requests <= g.load.MaxRequests {
		return
	}
	for _, s := range g.servers {
		s.Limiter.Max = max(1, s.Limiter.Max*room/sum)
	}
	g.log.Warn("fewer connections or requests than configured, on every listener: the process may not open so many files (RLIMIT_NOFILE)",
		"configured", sum, "connections", room, "requests", min(requests, g.load.MaxRequests), "files", descriptors)
}
