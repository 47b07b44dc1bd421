// Package fetch sends requests for documents over HTTP: over connections that the environment cannot
// divert, with responses that are bounded and never compressed, and with errors that do not quote the URL.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// NewTransport returns a transport that trusts roots, or the system's anchors if roots is nil.
func NewTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // no proxy, even if HTTPS_PROXY is set
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // net/http would request gzip and inflate the response without a bound
	}
}

var errInvalidURL = errors.New("the URL is not valid")

// NewRequest returns a GET of u. accept lists the accepted media types; "" accepts any type. etag is
// the ETag of a known document, or "". With an etag, the server may answer with status 304 (RFC 9110
// section 13.1.2).
func NewRequest(ctx context.Context, u *url.URL, accept, etag string) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errInvalidURL // err quotes the query, which may be secret
	}
	for name, value := range map[string]string{"Accept": accept, "If-None-Match": etag} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	return request, nil
}

// A Response is a complete HTTP response.
type Response struct {
	Status    int
	Header    http.Header
	MediaType string // the type in Content-Type, lower case, without parameters; "" when absent
	Body      []byte
}

var (
	// ErrTooLarge is returned for a response with more bytes than the limit.
	ErrTooLarge = errors.New("response too large")
	// ErrEncoded is returned for a compressed response, which the gate never requests.
	ErrEncoded = errors.New("response with a content encoding")
)

// Send sends request, whose context bounds the whole exchange, and reads the response. Send returns
// ErrTooLarge for a response of more than limit bytes, and ErrEncoded for a response with a content
// encoding, because few compressed bytes can inflate to any size. Errors do not quote the URL, whose
// query may be secret, and not the response, in which the server may repeat secrets of the request. A
// [*net.OpError] with Op "dial" means that no byte of the request was sent.
func Send(client *http.Client, request *http.Request, limit int64) (*Response, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutAnswer(WithoutURL(err))
	}
	defer func() { _ = response.Body.Close() }()
	if len(response.Header.Values("Content-Encoding")) > 0 {
		return nil, ErrEncoded
	}
	var body []byte
	if response.ContentLength <= limit {
		if body, err = io.ReadAll(io.LimitReader(response.Body, limit+1)); err != nil {
			return nil, withoutAnswer(err)
		}
	}
	if response.ContentLength > limit || int64(len(body)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	// If a parameter is malformed, ParseMediaType returns an error and still returns the media type.
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return &Response{response.StatusCode, response.Header, mediaType, body}, nil
}

// Open sends request and returns the response with its body unread, for a body that has no end. The caller must close the
// body. Errors quote neither the URL nor the response.
func Open(client *http.Client, request *http.Request) (*http.Response, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutAnswer(WithoutURL(err))
	}
	return response, nil
}

// WithoutURL returns the cause in an error of an HTTP client, because the text of the error itself
// quotes the URL.
func WithoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// withoutAnswer returns err without the quoted parts of its text. net/http quotes the parts of a response that
// it cannot parse, always in quotation marks. The error of a certificate stays whole, because certificates are
// not secret.
func withoutAnswer(err error) error {
	var certificate *tls.CertificateVerificationError
	if !strings.Contains(err.Error(), `"`) || errors.As(err, &certificate) {
		return err
	}
	return unquotedError{err}
}

// An unquotedError has the text of error before the first quotation mark.
type unquotedError struct{ error }

func (e unquotedError) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), `"`)
	return strings.TrimRight(text, " :[")
}

func (e unquotedError) Unwrap() error { return e.error }
