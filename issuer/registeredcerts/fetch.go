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

// newClient returns the HTTP client for one jwks_uri. It uses no proxy, follows no redirect and
// connects only to addresses for which checkAddress returns nil. It has no timeout of its own.
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
	return &http.Client{
		// The redirect is returned and fails the check for status 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // overrides HTTPS_PROXY
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true, // net/http would request and decompress gzip
			DisableKeepAlives:      true, // fetches are minutes apart
		},
	}
}

var errEncoded = errors.New("the response has a content encoding")

// fetch returns the document at an https URL. The response must have status 200, a JSON content
// type, no content encoding and at most [maxKeySet] bytes.
func fetch(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("the URL is invalid") // err quotes the query, which may be secret
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := client.Do(request)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // outer quotes the URL, whose query may be secret
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the response has status %d, want 200", response.StatusCode)
	}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if mediaType != "application/jwk-set+json" && mediaType != "application/json" {
		return nil, fmt.Errorf("the response has content type %q, want JSON", access.Truncate(mediaType))
	}
	if len(response.Header.Values("Content-Encoding")) > 0 { // not requested
		return nil, errEncoded
	}
	if response.ContentLength > maxKeySet {
		return nil, errTooLarge
	}
	// One byte above the limit shows that the document is too large.
	return io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
}
