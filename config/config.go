// Package config is the one typed tree of settings: [Default] fills it, [Load]
// reads a YAML file over the defaults and judges the result. What comes out is
// data that every other package may trust: durations, sizes, URLs, path patterns,
// names and thumbprints are typed values, references resolve, and nothing that
// decides about access is left empty. The package opens only the files it is told
// to decode; certificates and keys stay paths.
package config

import (
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Config is the whole file. Its order is that of config.example.yaml.
type Config struct {
	Listener             Listener              `yaml:"listener"`
	AuthorizationServers []AuthorizationServer `yaml:"authorization_servers"` // who may vouch for tokens; at least one
	APIs                 []API                 `yaml:"apis"`                  // at least one
	Partners             Partners              `yaml:"partners"`
	IdentityHeaders      IdentityHeaders       `yaml:"identity_headers"`
	Issuer               *Issuer               `yaml:"issuer"` // our own authorization server. Optional.
	Admin                Admin                 `yaml:"admin"`
	Drain                Drain                 `yaml:"drain"`
	Log                  Log                   `yaml:"log"`

	source strictyaml.Document // the position of each value
}

// IdentityHeaders names the headers that tell the upstream who calls. Inbound
// headers that equal or resemble one of them, or begin with Prefix, are removed
// from every request. An empty name is not sent.
type IdentityHeaders struct {
	Prefix               HeaderName `yaml:"prefix"`
	Partner              HeaderName `yaml:"partner"`
	ClientID             HeaderName `yaml:"client_id"`
	Scopes               HeaderName `yaml:"scopes"`
	Subject              HeaderName `yaml:"subject"`
	Thumbprint           HeaderName `yaml:"thumbprint"`
	Certificate          HeaderName `yaml:"certificate"`           // RFC 9440 section 2.2; default: not sent
	Assertion            HeaderName `yaml:"assertion"`             // on the routes that ask for it
	ForwardAuthorization bool       `yaml:"forward_authorization"` // let the upstream see the token
}

// Admin is the plain-HTTP listener for probes and metrics.
type Admin struct {
	Address Address `yaml:"address"`
	// Hosts are further names that it is served under, without port and without wildcard. It
	// is always served under addresses, names of one label and names of Kubernetes services.
	Hosts []Host `yaml:"hosts"`
}

// Drain says how the gate stops.
type Drain struct {
	// Delay is how long it goes on as before once /readyz has begun to fail, so that
	// whoever sends it traffic can see that first. In its second half each answer ends its
	// connection.
	Delay   time.Duration `yaml:"delay"`
	Timeout time.Duration `yaml:"timeout"` // for running requests, after the delay; then they are cut
}

// Log is the one log, JSON on standard error.
type Log struct {
	Level   LogLevel   `yaml:"level"`   // debug, info, warn, error
	Granted LogGranted `yaml:"granted"` // at info
}

// LogGranted is which of the requests that were granted, and came to their end, are logged.
// All others are.
type LogGranted string

// The values of [LogGranted].
const (
	LogSample LogGranted = "sample" // one a second of each partner on each route
	LogAll    LogGranted = "all"
)
