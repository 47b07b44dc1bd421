package main

import "net"

// values are what the templates of configurations are filled with.
type values struct {
	World      *world
	Dir        string // the peer's own folder
	Address    string // of its listener, host:port
	Port       string // the same, without the host
	Processors int
	Algorithm  string // of the tokens
	Opaque     bool   // tokens are opaque
	Issuer     string
	Audience   string
	Name       string // of the server
	Partners   []listed
	User       string // for Apache: whom workers run as, when not as they were started
}

// A listed is a partner in a configuration.
type listed struct {
	Name         string
	DNS          string // in its certificate, when that tells its application
	Trust        string // the file of its own authority, when it has one
	Applications []string
}

// Threads are those of Apache's processes, 128 each.
func (v values) Threads() int { return 128 * v.Processors }

// Path returns where a file of the world is.
func (v values) Path(name string) string { return v.World.path(name) }

// values returns them for a variant of a peer that listens at address.
func (w *world) values(v variant, dir, address string) values {
	_, port, _ := net.SplitHostPort(address)
	return values{
		World: w, Dir: dir, Address: address, Port: port, Processors: v.processors(), Algorithm: v.algorithm, Opaque: v.opaque,
		Issuer: issuer, Audience: audience, Name: serverName, Partners: w.listed(v),
	}
}

// listed returns the partners with their applications, which are dealt out in turn.
func (w *world) listed(v variant) []listed {
	var all []listed
	applications := v.applications
	if applications == 0 {
		applications = partners
	}
	for i, p := range w.of(v)[:min(applications, partners)] {
		l := listed{Name: p.name, DNS: p.dns()}
		if v.applications > 0 {
			l.DNS, l.Trust = "", w.path(p.name+"-ca.pem")
		}
		for n := 0; i+n*partners < applications; n++ {
			l.Applications = append(l.Applications, p.application(n))
		}
		all = append(all, l)
	}
	return all
}
