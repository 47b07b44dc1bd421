package registeredcerts

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/fetch"
)

// newClient returns the HTTP client for one jwks_uri. It uses no proxy, follows no redirect and
// connects only to addresses for which checkAddress returns nil. It has no timeout of its own; the
// context of a request bounds the time.
func newClient(roots *x509.CertPool, checkAddress func(netip.Addr) error) *http.Client {
	dialer := &net.Dialer{
		// Control runs after name resolution, with the address that the dialer connects to.
		Control: func(_, address string, _ syscall.RawConn) error {
			target, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return checkAddress(target.Addr())
		},
	}
	transport := fetch.NewTransport(roots)
	transport.DialContext = dialer.DialContext
	transport.MaxResponseHeaderBytes = 16 << 10
	transport.DisableKeepAlives = true // because fetches are minutes apart
	return &http.Client{
		// The client returns the redirect as the response, which then fails the check for status 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     transport,
	}
}

// load returns the document at u. The response must have status 200, a JSON content type, no content
// encoding and at most [maxKeySet] bytes.
func load(ctx context.Context, client *http.Client, u *url.URL) ([]byte, error) {
	request, err := fetch.NewRequest(ctx, u, "application/jwk-set+json, application/json", "")
	if err != nil {
		return nil, err
	}
	response, err := fetch.Send(client, request, maxKeySet)
	switch {
	case err != nil:
		return nil, err
	case response.Status != http.StatusOK:
		return nil, fmt.Errorf("the response has status %d, want 200", response.Status)
	case response.MediaType != "application/jwk-set+json" && response.MediaType != "application/json":
		return nil, fmt.Errorf("the response has content type %q, want JSON", access.Truncate(response.MediaType))
	}
	return response.Body, nil
}
