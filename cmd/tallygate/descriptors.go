package main

import "syscall"

// descriptors returns how many files and sockets the process may have open. Go's runtime
// raises the limit as far as it may.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 30 // as if there were none
	}
	return int(min(uint64(limit.Cur), 1<<30)) //nolint:unconvert // not unsigned everywhere
}

// otherDescriptors are those beside connections and requests: files that are read, the
// log, the issuer's state, idle connections to upstreams and authorization servers.
const otherDescriptors = 512

// fit lowers the bounds on connections where so many could take all descriptors, and with
// them those that upstreams need. Each request in hand may have one there.
func (g *gate) fit(descriptors int) {
	sum := 0
	for _, s := range g.servers {
		sum += s.door.most
	}
	room := max(descriptors-g.current.Load().cfg.Listener.Limits.Requests-otherDescriptors, descriptors/2)
	if sum <= room {
		return
	}
	for _, s := range g.servers {
		s.door.most = max(1, s.door.most*room/sum)
	}
	g.log.Warn("fewer connections than configured, on every listener: the process may not open so many files (RLIMIT_NOFILE)",
		"configured", sum, "connections", room, "files", descriptors)
}
