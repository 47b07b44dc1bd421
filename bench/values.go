package main

import "net"

// values fill the templates of the configurations.
type values struct {
	Environment *environment
	Dir         string // the peer's folder
	Address     string // the address of its listener, host:port
	Port        string // the port of its listener
	Processors  int
	Algorithm   string // the algorithm of the tokens
	Opaque      bool   // tokens are opaque
	Issuer      string
	Audience    string
	Name        string // the host name of the API
	Partners    []listed
	User        string // for Apache: the user of the workers; "" for the user that starts them
}

// A listed partner is a partner as configurations list it.
type listed struct {
	Name         string
	DNS          string // the name in the certificate, when it identifies the application
	Trust        string // the file of the partner's own authority, if any
	Applications []string
}

// Threads returns the number of Apache's threads, 128 in each process.
func (v values) Threads() int { return 128 * v.Processors }

// UpstreamPort returns the port of the upstream.
func (v values) UpstreamPort() string {
	_, port, _ := net.SplitHostPort(v.Environment.Upstream)
	return port
}

// Path returns the path of a file of the environment.
func (v values) Path(name string) string { return v.Environment.path(name) }

// values returns the values for a variant of a peer that listens at address.
func (env *environment) values(v variant, dir, address string) values {
	_, port, _ := net.SplitHostPort(address)
	return values{
		Environment: env, Dir: dir, Address: address, Port: port, Processors: v.processors(), Algorithm: v.algorithm, Opaque: v.opaque,
		Issuer: issuer, Audience: audience, Name: serverName, Partners: env.listed(v),
	}
}

// listed returns the partners with their applications. Applications are assigned to partners in turn.
func (env *environment) listed(v variant) []listed {
	var all []listed
	applications := v.applications
	if applications == 0 {
		applications = partners
	}
	for i, p := range env.of(v)[:min(applications, partners)] {
		l := listed{Name: p.name, DNS: p.dns()}
		if v.applications > 0 {
			l.DNS, l.Trust = "", env.path(p.name+"-ca.pem")
		}
		for n := 0; i+n*partners < applications; n++ {
			l.Applications = append(l.Applications, p.application(n))
		}
		all = append(all, l)
	}
	return all
}
