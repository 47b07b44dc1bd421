package issuer

import (
	"log/slog"
	"net/http"
	"net/url"

	"github.com/tallygate/tallygate/issuer/feed"
	"github.com/tallygate/tallygate/revocation"
)

// lastEventID is the header in which a subscriber says where it has stopped reading (WHATWG HTML, "The
// Last-Event-ID header").
const lastEventID = "Last-Event-Id"

// serveFeed is the endpoint of the feed of revocations. A response lasts until the subscriber leaves or loses
// the right to subscribe.
func (i *Issuer) serveFeed(w http.ResponseWriter, r *http.Request) {
	c, position, err := i.admitSubscriber(r)
	if err == nil {
		if i.requests != nil {
			i.requests.Add(-1)
			defer i.requests.Add(1)
		}
		err = i.feed.Serve(w, r, feed.Subscription{
			ClientID: c.client.id, Address: c.address.String(), Position: position,
			Recheck: func() error { return i.recheck(r, c.client.id) },
		})
		if err == nil {
			return
		}
		err = &refusal{temporarilyUnavailable, err}
	}
	i.log.LogAttrs(r.Context(), slog.LevelWarn, "revocation stream refused", c.logAttributes(err)...)
	writeFault(w, faultOf(err))
}

// admitSubscriber is admit for the endpoint of the feed, whose parameters are in the query.
func (i *Issuer) admitSubscriber(r *http.Request) (call, revocation.Position, error) {
	c := call{address: sourceOf(r)}
	if !i.addresses.allow(c.address) {
		return c, revocation.Position{}, refuse(tooManyRequests, "the source address exceeds its request rate")
	}
	position, err := c.readSubscription(r)
	if err != nil {
		return c, position, err
	}
	if err := i.identify(r, &c); err != nil {
		return c, position, err
	}
	switch {
	case c.client.subscriptions == nil:
		return c, position, refuse(notSubscriber, "the client is no resource server with revocations: true")
	case !c.client.subscriptions.Allow():
		return c, position, refuse(tooManyRequests, "the client exceeds its rate of subscriptions")
	}
	return c, position, i.currentRefusal()
}

// readSubscription reads the query and the position of a subscription.
func (c *call) readSubscription(r *http.Request) (revocation.Position, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query) != 1 || len(query["client_id"]) != 1 {
		return revocation.Position{}, refuse(invalidRequest, "the query is not client_id alone")
	}
	c.parameters = form(query)
	if err := checkSingleMethod(r, c.parameters); err != nil {
		return revocation.Position{}, err
	}
	switch ids := r.Header[lastEventID]; {
	case len(ids) == 0:
		return revocation.Position{}, nil
	case len(ids) == 1:
		if position, err := revocation.ParsePosition(ids[0]); err == nil {
			return position, nil
		}
	}
	return revocation.Position{}, refuse(invalidRequest, "Last-Event-ID is not one position")
}

// recheck returns an error if the issuer of the present configuration refuses the subscriber whose stream answers r.
func (i *Issuer) recheck(r *http.Request, id string) error {
	latest := i
	if i.latest != nil {
		latest = i.latest()
	}
	certificate, err := latest.certificate(r)
	if err != nil {
		return err
	}
	c, err := latest.authenticate(r.Context(), id, certificate)
	if err != nil {
		return err
	}
	if c.subscriptions == nil {
		return refuse(notSubscriber, "the client may not subscribe any more")
	}
	return nil
}

// EndStreams ends all streams of revocations soon, and lets no other begin. It is for a process that stops.
func (i *Issuer) EndStreams() { i.feed.End() }
