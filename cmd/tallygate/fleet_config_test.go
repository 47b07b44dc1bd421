package main

import (
	"fmt"
	"slices"
	"strings"
)

// fleetPartners is the part of the configurations that issuers and sidecars share.
func (f *fleet) fleetPartners() string {
	lines := map[string]string{}
	var order []string
	for _, x := range f.targets {
		if lines[x.partner] == "" {
			order = append(order, x.partner)
			lines[x.partner] = fmt.Sprintf("    - name: %s\n      trust: [northwind-ca.pem]\n      applications:\n", x.partner)
		}
		lines[x.partner] += fmt.Sprintf("        - {client_id: %s, certificate: {san_dns: %s.northwind.example}, apis: [accounts]}\n", x.clientID, x.clientID)
	}
	var text strings.Builder
	text.WriteString("partners:\n  list:\n")
	for _, partner := range order {
		text.WriteString(lines[partner])
	}
	return text.String()
}

const fleetIssuerConfig = `
listener:
  address: "127.0.0.1:0"
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
  limits: {connections: 50000, connections_per_address: 50000} # the issuer's listener has the same; all subscribers are on this machine
authorization_servers:
  - {name: ours, issuer: "https://ENTRANCE", audiences: [https://api.example.com]}
apis:
  - {name: accounts, hosts: [api.example.com], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /accounts}]}
issuer:
  issuer: https://ENTRANCE
  address: ADDRESS
  DATABASE
  audience: https://api.example.com
  token_lifetime: 1h
  resource_servers:
    - client_id: fleet
      trust: [internal-ca.pem]
      certificate: {san_dns: sidecar.internal.example}
      resources: [https://api.example.com]
      revocations: true
  operators:
    - {name: night-shift, trust: [operations-ca.pem], certificate: {san_dns: operator.internal.example}, permissions: [revoke]}
  limits:
    per_client: {requests_per_second: 100000, burst: 100000}
    per_address: {requests_per_second: 100000, burst: 100000}
admin: {address: "127.0.0.1:0"}
drain: {delay: 0s, timeout: 1s}
`

func (f *fleet) issuerConfig(i *stateful) string {
	return strings.NewReplacer("ENTRANCE", f.entrance.address(), "ADDRESS", i.issuerAddress, "DATABASE", f.database).Replace(fleetIssuerConfig) + f.fleetPartners()
}

const fleetSidecarConfig = `
listener:
  address: "127.0.0.1:0"
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
  client_certificates: {trust: [northwind-ca.pem]}
authorization_servers:
  - name: tallygate
    issuer: https://ENTRANCE
    audiences: [https://api.example.com]
    connection: {trust: [gate.pem], certificate: {certificate: sidecar.pem, key: sidecar-key.pem}}
INTROSPECTIONapis:
  - {name: accounts, hosts: [api.example.com], upstream: {url: "UPSTREAM"}, routes: [{methods: [GET], path: /accounts}]}
revocations:
  server: tallygate
  feeds: [FEEDS]
  client_id: fleet
SETTINGS
admin: {address: "127.0.0.1:0"}
drain: {delay: 0s, timeout: 1s}
`

func (f *fleet) sidecarConfig(s *sidecar, settings []string) string {
	var feeds []string
	for i := range f.feeds { // the sidecars begin at the feeds in turn
		feeds = append(feeds, fmt.Sprintf("https://%s/revocations", f.feeds[(i+len(f.sidecars))%len(f.feeds)].address()))
	}
	introspection := "" // the configuration refuses it where nothing introspects
	if slices.Contains(settings, "when_stale: introspect") {
		introspection = "    introspection: {client_id: fleet}\n"
	}
	return strings.NewReplacer("INTROSPECTION", introspection, "ENTRANCE", f.entrance.address(), "UPSTREAM", s.upstream.url(), "FEEDS", strings.Join(feeds, ", "),
		"SETTINGS", "  "+strings.Join(settings, "\n  ")).Replace(fleetSidecarConfig) + f.fleetPartners()
}
