package registeredcerts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"

	"github.com/tallygate/tallygate/access"
)

// newClient returns the client that reads one jwks_uri. It shares nothing with other
// clients, asks no proxy, follows no redirect and connects only where dialable
// returns nil. Whoever calls it sets the time limit.
func newClient(roots *x509.CertPool, checkAddress func(netip.Addr) error) *http.Client {
	dialer := &net.Dialer{
		// Here the name has been resolved for the last time: this is the address that
		// will be connected to.
		Control: func(_, address string, _ syscall.RawConn) error {
			target, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return checkAddress(target.Addr())
		},
	}
	return &http.Client{
		// The redirect itself comes back, and its status is not 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // also not from the environment
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true, // net/http would ask for it, and inflate the answer
			DisableKeepAlives:      true, // minutes lie between two readings
		},
	}
}

var errEncoded = errors.New("answered with a content encoding")

// fetch returns the document at an https URL. Only an answer with status 200 that says to
// be JSON, has no content encoding and is at most [maxKeySet] long counts.
func fetch(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("the URL makes no request") // err would quote the query
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := client.Do(request)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // outer quotes the URL, whose query may be a secret
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", response.StatusCode)
	}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if mediaType != "application/jwk-set+json" && mediaType != "application/json" {
		return nil, fmt.Errorf("answered with content type %q", access.Truncate(mediaType))
	}
	if len(response.Header.Values("Content-Encoding")) > 0 { // which nobody asked for
		return nil, errEncoded
	}
	if response.ContentLength > maxKeySet {
		return nil, errTooLarge
	}
	// One byte more than is allowed, so that too much is told from just enough.
	return io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
}
