package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/internal/fetch"
)

const (
	// attemptTimeout bounds one request to the collector, and batchTimeout all attempts to send one batch. Both are
	// the defaults of OpenTelemetry.
	attemptTimeout = 10 * time.Second
	batchTimeout   = 30 * time.Second
	// firstPause is the pause before the second attempt. It doubles with each attempt.
	firstPause = time.Second
	// maxResponse bounds a response of the collector, which has a few bytes.
	maxResponse = 64 << 10
)

// A client sends spans to a collector by OTLP over HTTP, as uncompressed protobuf. It replaces otlptracehttp,
// whose client depends on gRPC: a third of the whole program, and linked even where no span is ever sent. It is
// safe for concurrent use.
type client struct {
	url    string
	header http.Header
	http   *http.Client
}

// newClient returns a client for d. It follows no redirect, because the header of a request may have a secret
// that belongs to the collector.
func newClient(d *destination) *client {
	transport := fetch.NewTransport(d.roots)
	if d.certificate != nil {
		transport.TLSClientConfig.Certificates = append(transport.TLSClientConfig.Certificates, *d.certificate)
	}
	header := d.header.Clone()
	header.Set("Content-Type", "application/x-protobuf")
	header.Set("User-Agent", "tallygate/"+buildinfo.Read().Version)
	return &client{url: d.url, header: header, http: &http.Client{
		Transport: transport, Timeout: attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Start does nothing: the first request opens a connection.
func (c *client) Start(context.Context) error { return nil }

// Stop closes the connections.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces sends spans. It tries again while the collector is busy or cannot be reached, until ctx ends
// (OTLP specification, section "Failures"). The error quotes nothing from a response of the collector.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// TracesData has the same encoding as the request ExportTraceServiceRequest, whose package imports gRPC.
	message, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	for pause := firstPause; ; pause *= 2 {
		asked, err := c.send(ctx, message)
		if !errors.Is(err, errTryLater) {
			return err
		}
		timer := time.NewTimer(max(pause, asked))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// errTryLater marks a failure that may end soon.
var errTryLater = errors.New("not taken in time")

// A rejectedError is the number of spans of a batch that the collector has rejected.
type rejectedError int64

func (e rejectedError) Error() string {
	return "the collector rejected spans: " + strconv.FormatInt(int64(e), 10)
}

// send makes one attempt. With errTryLater, asked is the pause that the collector asks for.
func (c *client) send(ctx context.Context, message []byte) (asked time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(message))
	if err != nil {
		return 0, errors.New("the URL of the collector is not valid")
	}
	request.Header = c.header
	response, err := fetch.Send(c.http, request, maxResponse)
	switch {
	case errors.Is(err, fetch.ErrTooLarge), errors.Is(err, fetch.ErrEncoded):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("%w: %w", errTryLater, err)
	}
	switch response.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16)
		return time.Duration(seconds) * time.Second, fmt.Errorf("%w: the collector answered with status %d", errTryLater, response.Status)
	}
	if response.Status/100 != 2 {
		return 0, fmt.Errorf("the collector answered with status %d", response.Status)
	}
	if n := rejected(response.Body); n > 0 {
		return 0, rejectedError(n)
	}
	return 0, nil
}

// rejected returns the number of rejected spans in a response: partial_success.rejected_spans of
// ExportTraceServiceResponse. For a malformed response, it returns 0.
func rejected(response []byte) int64 {
	const partialSuccess, rejectedSpans = 1, 1
	partial := field(response, partialSuccess, protowire.BytesType)
	if partial == nil {
		return 0
	}
	inner, n := protowire.ConsumeBytes(partial)
	if n < 0 {
		return 0
	}
	count, n := protowire.ConsumeVarint(field(inner, rejectedSpans, protowire.VarintType))
	if n < 0 {
		return 0
	}
	return int64(count)
}

// field returns the rest of message, from the value of the first field with this number and type. It returns
// nil if message has no such field.
func field(message []byte, number protowire.Number, kind protowire.Type) []byte {
	for len(message) > 0 {
		got, gotKind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil
		}
		message = message[n:]
		if got == number && gotKind == kind {
			return message
		}
		if n = protowire.ConsumeFieldValue(got, gotKind, message); n < 0 {
			return nil
		}
		message = message[n:]
	}
	return nil
}
