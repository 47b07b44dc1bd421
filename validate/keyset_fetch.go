package validate

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
	"net/url"
	"os"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

const (
	// maxKeySet bounds a key set. A thousand RSA keys of 4096 bits, 1 KB each, fit.
	maxKeySet = 1 << 20
	// fetchTimeout bounds one reading from a URL, from the connection to the last
	// byte. The last good keys serve meanwhile.
	fetchTimeout = 5 * time.Second
)

var errTooLarge = fmt.Errorf("larger than %d bytes", maxKeySet)

// newKeySetClient returns the client for one authorization server's key set. It
// shares nothing with other clients, asks no proxy and follows no redirect.
func newKeySetClient(settings config.KeySet) (*http.Client, error) {
	if settings.URL.Scheme != "https" {
		return nil, errors.New("the URL of a key set must be https")
	}
	roots, err := readAnchors(settings.Trust)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout: fetchTimeout,
		// The redirect itself comes back, and its status is not 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // also not from the environment
			DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // the bound is on what was sent
			DisableKeepAlives:      true, // minutes lie between two readings
		},
	}, nil
}

// readAnchors returns the anchors in PEM files, or nil, which stands for the
// system's, when no file is named. A file without a certificate is an error.
func readAnchors(files []config.Path) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, file := range files {
		pem, err := os.ReadFile(string(file))
		if err != nil {
			return nil, fmt.Errorf("reading trust anchors: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading trust anchors %q: no certificate in it", file)
		}
	}
	return pool, nil
}

// fetchKeySet returns the document at u. Only an answer with status 200 that says
// to be JSON counts, RFC 7517 section 8.5.
func fetchKeySet(ctx context.Context, client *http.Client, u *config.URL) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("the URL makes no request") // err would quote the query
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", response.StatusCode)
	}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if mediaType != "application/jwk-set+json" && mediaType != "application/json" {
		return nil, fmt.Errorf("answered with content type %q", access.Clip(mediaType))
	}
	return readBounded(response.Body)
}

// withoutURL returns the cause of a client's error. The error itself quotes the
// URL, whose query may be a secret.
func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

func readKeySetFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return readBounded(file)
}

// readBounded reads r to its end, which must come within [maxKeySet].
func readBounded(r io.Reader) ([]byte, error) {
	document, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(document) > maxKeySet {
		return nil, errTooLarge
	}
	return document, nil
}
