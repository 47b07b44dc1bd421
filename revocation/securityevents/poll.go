package securityevents

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/refresh"
)

const (
	// polledEvents is the number of events that a poll asks for. A response with the longest tokens has 100 ×
	// 16 KiB = 1.6 MiB.
	polledEvents = 100
	maxAnswer    = 2 << 20
	// maxRounds bounds the polls in a row without the configured interval, so that a server that always
	// has more events causes no endless loop: 100 × 1,000 = 100,000 events.
	maxRounds = 1000
)

// A pollRequest is the body of a poll, RFC 8936 section 2.4.
type pollRequest struct {
	MaxEvents         int  `json:"maxEvents"`
	ReturnImmediately bool `json:"returnImmediately"`
	acknowledgement
}

// An acknowledgement reports the outcomes of the tokens in the last response.
type acknowledgement struct {
	Acknowledged []string             `json:"ack,omitempty"`
	Errors       map[string]pollError `json:"setErrs,omitempty"`
}

// A pollError says why a token is refused, RFC 8936 section 2.6.
type pollError struct {
	Code        code   `json:"err"`
	Description string `json:"description"`
}

func (a *acknowledgement) isEmpty() bool { return len(a.Acknowledged) == 0 && len(a.Errors) == 0 }

// A pollResponse is the body of the response to a poll, RFC 8936 section 2.5.
type pollResponse struct {
	Sets map[string]string `json:"sets"` // tokens by jti
	More bool              `json:"moreAvailable"`
}

// run polls until ctx ends.
func (r *Receiver) run(ctx context.Context) {
	schedule := refresh.Every(r.settings.Poll.Interval)
	refresh.Loop{Fetch: r.poll, Backoff: func() refresh.Backoff { return schedule }}.Run(ctx, 0)
}

// poll polls until the server has no more events and every event has been reported, and logs the first error after
// a success.
func (r *Receiver) poll(ctx context.Context) error {
	err := r.pollUntilEmpty(ctx)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if r.state.lastError.Swap(nil) != nil {
			r.log.InfoContext(ctx, "polls for security events succeed again", "issuer", r.server)
		}
	default:
		text := err.Error()
		if last := r.state.lastError.Swap(&text); last == nil || *last != text {
			r.log.WarnContext(ctx, "poll for security events failed", "issuer", r.server, "error", err)
		}
	}
	return err
}

// pollUntilEmpty polls until the server has no more events and the outcome of every token is reported. A poll
// that the server held open for at least the interval is followed by the next poll at once.
func (r *Receiver) pollUntilEmpty(ctx context.Context) error {
	for range maxRounds {
		began := r.now()
		more, err := r.exchange(ctx, began)
		if err != nil {
			return err
		}
		held := r.settings.Poll.LongPoll > 0 && r.now().Sub(began) >= r.settings.Poll.Interval
		if !more && !held && r.pending.isEmpty() {
			return nil
		}
	}
	return nil
}

// exchange sends one poll, which reports the tokens of the previous response, and stores the revocations of the response.
// more says that the server has more events. The poll is a success after the revocations are stored, and if the server has
// no more events: until then, revocations are unknown.
func (r *Receiver) exchange(ctx context.Context, began time.Time) (more bool, err error) {
	answer, err := r.send(ctx)
	if err != nil {
		return false, err
	}
	ids, tokens := make([]string, 0, len(answer.Sets)), make([]string, 0, len(answer.Sets))
	for id, raw := range answer.Sets {
		if len(id) > maxText {
			return false, errors.New("the response has a jti that is too long")
		}
		ids, tokens = append(ids, id), append(tokens, raw)
	}
	verdicts, err := r.receive(ctx, tokens)
	if err != nil {
		return false, err
	}
	r.pending = report(ids, verdicts)
	if !answer.More {
		r.state.lastSuccess.Store(&began)
		r.state.once.Do(func() { close(r.state.synced) })
		r.metrics.lastSuccess.Set(float64(began.UnixMilli()) / 1e3)
	}
	return answer.More && len(ids) > 0, nil
}

// report returns the acknowledgement of the tokens with the given ids for the next poll.
func report(ids []string, verdicts []verdict) (a acknowledgement) {
	a.Errors = make(map[string]pollError)
	for i, v := range verdicts {
		switch {
		case v.fault != nil:
			a.Errors[ids[i]] = pollError{v.fault.code, v.fault.description}
		case v.id != ids[i]: // its revocations are stored, and the server names the token in a wrong way
			a.Errors[ids[i]] = pollError{invalidRequest, "The jti of the token differs from its name in sets."}
		default:
			a.Acknowledged = append(a.Acknowledged, ids[i])
		}
	}
	return a
}

// send sends one poll and returns the body of the response.
func (r *Receiver) send(ctx context.Context) (*pollResponse, error) {
	settings := r.settings.Poll
	ctx, cancel := context.WithTimeout(ctx, settings.LongPoll+config.PollTimeout)
	defer cancel()
	body, err := json.Marshal(pollRequest{polledEvents, settings.LongPoll == 0, r.pending})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, settings.Endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the endpoint is not a valid URL") // err would have the query of the URL
	}
	authorized, err := authorization(&settings.Authentication)
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}, "Content-Language": {"en"}}
	if authorized != "" {
		request.Header.Set("Authorization", authorized)
	}
	response, err := r.remote.Send(request, maxAnswer)
	if err != nil {
		return nil, err
	}
	return parseResponse(response)
}

// parseResponse decodes the body of response.
func parseResponse(response *fetch.Response) (*pollResponse, error) {
	if response.Status != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", response.Status)
	}
	if response.MediaType != "application/json" {
		return nil, fmt.Errorf("answered with content type %q", access.Truncate(response.MediaType))
	}
	if err := jsonlimit.Check(response.Body); err != nil {
		return nil, err
	}
	var answer pollResponse
	if json.Unmarshal(response.Body, &answer) != nil || answer.Sets == nil {
		return nil, errors.New("the response is not the JSON of RFC 8936 section 2.5")
	}
	return &answer, nil
}

// authorization returns the value of the Authorization header of a poll, or "" if the certificate of the
// connection authenticates the gate.
func authorization(a *config.PollAuthentication) (string, error) {
	switch a.Method {
	case config.PollTLS:
		return "", nil
	case config.PollSecretBasic:
		secret, err := authserver.ReadSecret(a.SecretFile)
		if err != nil {
			return "", err
		}
		// RFC 6749 section 2.3.1 form-encodes both the identifier and the secret.
		pair := url.QueryEscape(string(a.ClientID)) + ":" + url.QueryEscape(secret)
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), nil
	case config.PollBearer:
		token, err := authserver.ReadSecret(a.TokenFile)
		if err != nil {
			return "", err
		}
		return "Bearer " + token, nil
	}
	return "", fmt.Errorf("unknown authentication method %q", a.Method)
}
