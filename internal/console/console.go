// Package console serves the pages on which operators see who is refused, why, and since when: plain HTML
// that the server renders, for reading alone. It decides nothing and changes nothing.
package console

import (
	"crypto/x509"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/history"
	"github.com/tallygate/tallygate/validate"
)

// A Source has the data that the pages show. Its functions must be safe for concurrent use.
type Source struct {
	State   func() *State
	History *history.History
	// Port returns the port of the console's listener, which the Host of each request must have.
	Port func() string
	Now  func() time.Time // nil means time.Now
}

// A State is the gate at one moment.
type State struct {
	Config   *config.Config // the configuration that decides
	File     string         // the configuration file
	Hash     string         // the hash of the configuration file, as in the log
	Loaded   time.Time      // when Config was loaded
	Fault    string         // why the last reload failed; "" if it succeeded
	FaultAt  time.Time      // when the last reload failed
	Draining bool
	Unready  string   // why the gate is not ready; "" if it is
	Weakened []string // the warnings of settings that weaken a check
	Started  time.Time
	Version  string

	Certificates []ListenerCertificate
	AnchorsEnd   map[config.Name]time.Time // the first end of a partner's anchors; absent or zero without anchors
	Servers      []validate.ServerStatus
	Revocations  *Revocations // nil if the process has neither a feed nor an issuer

	// Anchors reads the anchors of a partner from their files.
	Anchors func(*config.Partner) ([]*x509.Certificate, error)
	// Route returns the API and the path pattern that a request has, or "" for both if no route matches.
	Route func(method, host, path string) (api, route string)
}

// A ListenerCertificate is the certificate of a listener.
type ListenerCertificate struct {
	Listener string
	Subject  string
	Names    []string
	NotAfter time.Time
}

// New returns the handler of the console's listener.
func New(source Source) http.Handler {
	if source.Now == nil {
		source.Now = time.Now
	}
	c := &console{source}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.overview)
	mux.HandleFunc("GET /partners", c.partners)
	mux.HandleFunc("GET /partner", c.partner)
	mux.HandleFunc("GET /access", c.access)
	mux.HandleFunc("GET /access.csv", c.accessCSV)
	mux.HandleFunc("GET /servers", c.servers)
	mux.HandleFunc("GET /revocations", c.revocations)
	mux.HandleFunc("GET /configuration", c.configuration)
	mux.HandleFunc("GET /assets/{name}", asset)
	return guard(source.Port, mux)
}

// A console serves the pages.
type console struct{ Source }
