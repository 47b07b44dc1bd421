package proxy

import (
	"errors"
	"net/http"

	"github.com/tallygate/tallygate/internal/upstream/http1"
)

// Details for the log.
var (
	errUnrequestedSwitch = errors.New("the upstream switched to a protocol that the request did not ask for")
	errStatus            = errors.New("the upstream's status code is below 100")
)

// An upstreamRoundTripper is the Transport of ReverseProxy for one exchange. It checks each response
// before any part of it is sent to the client.
type upstreamRoundTripper struct{ exchange *exchange }

// RoundTrip sends r to the upstream.
func (p upstreamRoundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	x := p.exchange
	r, err := x.body.awaitFirstByte(r)
	if err != nil {
		return nil, err
	}
	answer, err := x.proxy.upstreams[x.decision.API].Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 100 { // net/http reads such a status, and panics when it writes one
		_ = answer.Body.Close()
		return nil, errStatus
	}
	switching := answer.StatusCode == http.StatusSwitchingProtocols
	if x.response.unrequested101.Load() || switching && (!x.upgrade || !isWebSocket(answer.Header)) {
		_ = answer.Body.Close()
		return nil, errUnrequestedSwitch
	}
	if switching {
		x.response.switchProtocols(answer.Header)
	}
	x.trackResponse(answer)
	return answer, nil
}

// trackResponse starts the recheck for the time of the response body, unless the recheck already
// runs. A body that has arrived completely needs no recheck: its last bytes, at most 4 KiB, are
// written at once, within a stall timeout.
func (x *exchange) trackResponse(answer *http.Response) {
	body := answer.Body // ReverseProxy replaces the body of a tunnel
	kind := responseSized
	switch {
	case answer.StatusCode == http.StatusSwitchingProtocols:
		kind = responseStreaming
	case body == http.NoBody || answer.ContentLength == 0 || http1.Arrived(body):
		return
	case answer.ContentLength < 0:
		kind = responseStreaming
	}
	r := x.recheck
	if r == nil {
		r = x.startRecheck(func() { _ = body.Close() })
	}
	r.response.Store(kind)
}
