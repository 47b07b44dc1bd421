package proxy

import (
	"context"
	"errors"

	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/upstream"
)

// Details for the log.
var (
	errUnrequestedSwitch = errors.New("the upstream switched to a protocol that the request did not ask for")
	errStatus            = errors.New("the upstream's status code is not in 200 to 999")
)

// forward sends the granted request to the upstream of its API, and the response to the client.
func (p *Proxy) forward(x *exchange) {
	up := p.upstreams[x.Decision.API]
	defer up.AfterRequest()
	ctx := x.Request.Context()
	x.body.mayPause = x.Request.ContentLength < 0 && mayPause(x.Request.Header, up.Protocol)
	if authorize.HasBody(x.Request) && !x.conn.bodyArrived() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		x.startRecheck(func() {
			cancel()
			x.body.interrupt()
		})
	}
	defer x.stopRecheck()
	answer, err := x.roundTrip(ctx, up)
	if err != nil {
		x.answerFailure(err)
		return
	}
	if answer.Tunnel != nil {
		x.runTunnel(ctx, answer)
		return
	}
	x.sendResponse(answer)
}

// roundTrip sends the request to the upstream. It checks the response before any part of it is sent to
// the client. Package upstream has refused a switch to a protocol that the request did not ask for.
func (x *exchange) roundTrip(ctx context.Context, up *upstream.Upstream) (*upstream.Response, error) {
	x.makeRequest(up)
	if err := x.body.awaitFirstByte(&x.out); err != nil {
		return nil, err
	}
	answer, err := up.RoundTrip(ctx, &x.out)
	if err != nil {
		return nil, err
	}
	if answer.Tunnel == nil && (answer.Status < 200 || answer.Status > 999) {
		closeResponse(answer)
		return nil, errStatus
	}
	if x.Decision.Preflight {
		filterPreflight(answer)
	}
	x.trackResponse(answer)
	return answer, nil
}

func closeResponse(answer *upstream.Response) {
	if answer.Tunnel != nil {
		_ = answer.Tunnel.Close()
		return
	}
	_ = answer.Body.Close()
}

// trackResponse starts the recheck for the time of the response body, unless the recheck already
// runs. A body that has arrived completely needs no recheck, because it is written at once, within a
// stall timeout.
func (x *exchange) trackResponse(answer *upstream.Response) {
	kind := responseSized
	switch {
	case answer.Tunnel != nil:
		kind = responseStreaming
	case answer.Length == 0 || answer.Arrived:
		return
	case answer.Length < 0:
		kind = responseStreaming
	}
	r := x.recheck
	if r == nil {
		r = x.startRecheck(func() { closeResponse(answer) })
	}
	r.response.Store(kind)
}
