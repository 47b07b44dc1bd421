// Package config has the settings of the gate as one tree of typed values. [Default] returns the
// defaults, and [Load] reads a YAML file over them and validates the result. Other packages can
// rely on a loaded [Config]: durations, sizes, URLs, path patterns, names and thumbprints are
// typed, references resolve, and no setting that decides about access is empty. The package opens
// only the configuration file. Certificates and keys stay paths.
package config

import (
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Config is the whole file, in the order of config.example.yaml. A loaded Config is not changed
// and is safe for concurrent use.
type Config struct {
	Listener             Listener              `yaml:"listener"`
	AuthorizationServers []AuthorizationServer `yaml:"authorization_servers"` // the servers whose tokens the gate accepts; at least one
	APIs                 []API                 `yaml:"apis"`                  // at least one
	DPoP                 DPoP                  `yaml:"dpop"`
	Partners             Partners              `yaml:"partners"`
	IdentityHeaders      IdentityHeaders       `yaml:"identity_headers"`
	Issuer               *Issuer               `yaml:"issuer"` // our own authorization server. Optional.
	Admin                Admin                 `yaml:"admin"`
	Drain                Drain                 `yaml:"drain"`
	Log                  Log                   `yaml:"log"`

	source strictyaml.Document // the position of each value
}

// IdentityHeaders names the headers that tell an upstream about the caller. Inbound headers that
// equal or resemble one of these names, or begin with Prefix, are removed from every request. A
// header with an empty name is not sent.
type IdentityHeaders struct {
	Prefix               HeaderName `yaml:"prefix"`
	Partner              HeaderName `yaml:"partner"`
	ClientID             HeaderName `yaml:"client_id"`
	Scopes               HeaderName `yaml:"scopes"`
	Subject              HeaderName `yaml:"subject"`
	Thumbprint           HeaderName `yaml:"thumbprint"`
	Certificate          HeaderName `yaml:"certificate"`           // RFC 9440 section 2.2; default: not sent
	Assertion            HeaderName `yaml:"assertion"`             // on routes with assertion: true
	ForwardAuthorization bool       `yaml:"forward_authorization"` // forward the access token to the upstream
}

// Admin is the plain-HTTP listener for probes and metrics.
type Admin struct {
	Address Address `yaml:"address"`
	// Hosts are further names in the Host header that the listener accepts, without port and
	// wildcard. The listener always accepts IP addresses, names of one label and names of
	// Kubernetes services. The check stops web pages that read the metrics by DNS rebinding.
	Hosts []Host `yaml:"hosts"`
}

// Drain says how the gate stops.
type Drain struct {
	// Delay is the time between the failure of /readyz and the closing of the listeners, in
	// which load balancers notice the failure. In its second half each response closes its
	// connection.
	Delay   time.Duration `yaml:"delay"`
	Timeout time.Duration `yaml:"timeout"` // how long running requests may continue after the delay, before the gate aborts them
}

// Log is the log, JSON on standard error.
type Log struct {
	Level   LogLevel   `yaml:"level"`   // debug, info, warn or error
	Granted LogGranted `yaml:"granted"` // which granted requests are logged, at level info
}

// LogGranted says which of the granted requests that ended normally are logged. All other requests
// are always logged.
type LogGranted string

// The values of [LogGranted].
const (
	LogSample LogGranted = "sample" // one per second for each partner and route
	LogAll    LogGranted = "all"
)
