// Package config has the settings of the gate as one tree of typed values. [Default] returns the
// defaults. [Load] decodes a YAML file over the defaults and validates the result. Other packages can
// rely on a loaded [Config]: durations, sizes, URLs, path patterns, names and thumbprints are typed,
// references resolve, and no setting that decides about access is empty. The package opens only the
// configuration file; the names of certificate and key files stay paths.
package config

import (
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Config has all settings of the file, in the order of config.example.yaml. No code changes a loaded
// Config, so it is safe for concurrent use.
type Config struct {
	Listener             Listener              `yaml:"listener" schema:"required"`
	AuthorizationServers []AuthorizationServer `yaml:"authorization_servers" schema:"required,nonempty"` // the servers whose tokens the gate accepts; at least one
	APIs                 []API                 `yaml:"apis" schema:"required,nonempty"`                  // at least one
	DPoP                 DPoP                  `yaml:"dpop"`
	Partners             Partners              `yaml:"partners"`
	IdentityHeaders      IdentityHeaders       `yaml:"identity_headers"`
	Issuer               *Issuer               `yaml:"issuer"`      // our own authorization server. Optional.
	Revocations          *Revocations          `yaml:"revocations"` // the revocations of an issuer in another process; excludes Issuer. Optional.
	Admin                Admin                 `yaml:"admin"`
	Drain                Drain                 `yaml:"drain"`
	Log                  Log                   `yaml:"log"`
	Correlation          Correlation           `yaml:"correlation"`
	Tracing              Tracing               `yaml:"tracing"`

	source strictyaml.Document // the position of each value
}

// IdentityHeaders names the headers that tell an upstream about the caller. The gate removes inbound
// headers that equal or resemble one of these names, or begin with Prefix, from every request. A
// header with an empty name is not sent.
type IdentityHeaders struct {
	Prefix               HeaderName `yaml:"prefix" schema:"nonempty"`
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
	// Hosts are further names that the listener accepts in the Host header, without port and without
	// wildcards. The listener always accepts IP addresses, names with one label and names of
	// Kubernetes services. The check stops web pages that try to read the metrics by DNS rebinding.
	Hosts []Host `yaml:"hosts"`
	// Console is the listener of the console, pages for operators. Default: no console.
	Console *Console `yaml:"console"`
}

// Console is the plain-HTTP listener of the console. The console has no login, so its address must be
// loopback.
type Console struct {
	Address Address `yaml:"address"`
}

// Drain says how the gate stops.
type Drain struct {
	// Delay is the time from the moment when /readyz begins to fail until the listeners close. During
	// the delay load balancers notice that /readyz fails. In the second half of the delay each
	// response closes its connection.
	Delay   time.Duration `yaml:"delay"`
	Timeout time.Duration `yaml:"timeout"` // how long running requests may continue after the delay, before the gate aborts them
}

// Log configures the log, which is JSON on standard error.
type Log struct {
	Level   LogLevel   `yaml:"level"`   // debug, info, warn or error
	Granted LogGranted `yaml:"granted"` // the granted requests that are logged, at level info
	Paths   LogPaths   `yaml:"paths"`   // for which requests the path is logged
}

// LogPaths says which lines about requests have the path. The query is never logged.
type LogPaths string

// The values of [LogPaths].
const (
	LogUnmatchedPaths LogPaths = "unmatched" // requests that match no route
	LogAllPaths       LogPaths = "all"
	LogNoPaths        LogPaths = "none"
)

// LogGranted says which of the granted requests that ended normally are logged. All other requests
// are always logged.
type LogGranted string

// The values of [LogGranted].
const (
	LogSample LogGranted = "sample" // one per second for each partner and route
	LogAll    LogGranted = "all"
)
