package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpproxy"

	"github.com/tallygate/tallygate/config"
)

var errProxyScheme = errors.New("HTTPS_PROXY must start with http://: the proxy forwards TLS, which ends at the server")

// proxyOf returns a function that returns the proxy for a request, or nil for a request that is sent
// directly. Only requests over https use the proxy, because the proxy could read requests over http.
// http is meant for servers in the gate's own network.
func proxyOf(c *config.Connection) func(*http.Request) (*url.URL, error) {
	switch {
	case c.Proxy != nil:
		return func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme != "https" {
				return nil, nil
			}
			return &c.Proxy.URL, nil
		}
	case c.ProxyFromEnvironment:
		environment := httpproxy.FromEnvironment().ProxyFunc()
		return func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme != "https" {
				return nil, nil
			}
			proxy, err := environment(r.URL)
			if err == nil && proxy != nil && proxy.Scheme != "http" {
				return nil, errProxyScheme
			}
			return proxy, err
		}
	}
	return nil
}

// checkConnect checks the answer of a proxy to CONNECT. Its error has the number of the status alone: the error of
// net/http is the proxy's status text, which may name anything, and errors are logged.
func checkConnect(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answered CONNECT with status %d", answer.StatusCode)
	}
	return nil
}
