package main

import (
	"net/http"
	"runtime"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/config"
)

// newHTTP2Server returns the server of a TLS listener's connections over HTTP/2. over1 is
// the server of those over HTTP/1.1, whose handler and timeouts it shares.
//
// HTTP/2 comes from golang.org/x/net, at a version that go.mod names, not from the
// net/http of the Go release that somebody happens to build with: in Go 1.26.8 and older
// any client can end the process (see [soundSince]). Built with Go 1.27 or newer, x/net
// delegates to net/http again, which [encoderTable] takes into account.
func newHTTP2Server(over1 *http.Server, limits config.Limits) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	s := &http.Server{
		Handler:   over1.Handler,
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:      128,
			MaxEncoderHeaderTableSize: encoderTable(runtime.Version()),
			// The least that RFC 9113 section 4.2 allows. By default a peer can make us
			// set aside 1 MiB by announcing a frame of that size, on each connection.
			MaxReadFrameSize: 16 << 10,
			// Request bodies wait here while an upstream is slow to take them. By default
			// a client can fill 1 MiB on each connection, beside which the rest of a
			// connection is nothing. A window passes once per round trip: 256 KiB / 50 ms
			// is some 5 MB a second.
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     256 << 10,
			WriteByteTimeout:              limits.StallTimeout,
			SendPingTimeout:               limits.IdleTimeout,
			PingTimeout:                   limits.HeaderTimeout,
		},
		MaxHeaderBytes:    int(limits.HeaderBytes),
		ReadHeaderTimeout: over1.ReadHeaderTimeout,
		ReadTimeout:       over1.ReadTimeout,
		WriteTimeout:      over1.WriteTimeout,
		IdleTimeout:       over1.IdleTimeout,
		ConnContext:       over1.ConnContext,
		ErrorLog:          over1.ErrorLog,
		// Otherwise net/http answers "OPTIONS *" before the handler sees it.
		DisableGeneralOptionsHandler: true,
	}
	if err := http2.ConfigureServer(s, new(http2.Server)); err != nil { //nolint:staticcheck // deprecated in favour of net/http, which depends on the Go release
		panic(err) // it objects to TLS settings alone, and s has none
	}
	return s
}
