package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/tokenclient"
)

// A tour holds the clients of the demo's partners, and northwind's token.
type tour struct {
	*demo
	clients map[string]*tokenclient.Client // the key is a partner; the client for "" sends no certificate
	ledger  string                         // northwind's token
}

func (t *tour) close() {
	for _, c := range t.clients {
		c.HTTP.CloseIdleConnections()
	}
}

func (t *tour) flags(partner, clientID string) tokenclient.Options {
	return tokenclient.Options{
		Metadata: "https://" + t.addresses["issuer"],
		Cert:     filepath.Join(t.dir, partner+".pem"), Key: filepath.Join(t.dir, partner+"-key.pem"),
		CA: filepath.Join(t.dir, "ca.pem"), ClientID: clientID, Timeout: 10 * time.Second,
	}
}

// client returns the HTTP client with partner's certificate, or without a certificate for "".
func (t *tour) client(partner string) (*http.Client, error) {
	if c, ok := t.clients[partner]; ok {
		return c.HTTP, nil
	}
	shown := partner
	if shown == "" {
		shown = "northwind"
	}
	c, err := tokenclient.New(t.flags(shown, ""))
	if err != nil {
		return nil, err
	}
	if partner == "" {
		c.HTTP.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = nil
	}
	t.clients[partner] = c
	return c.HTTP, nil
}

// A call is one request of the tour with its expected result.
type call struct {
	partner      string // the owner of the client certificate; "": the request has no certificate
	method, path string
	header       http.Header
	status       int
	reason       string // expected reason of the refusal; "": the request is granted
}

// play sends the request c with northwind's token, prints it and checks the result. A refused
// request must not reach the API.
func (t *tour) play(ctx context.Context, c call) error {
	client, err := t.client(c.partner)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, c.method, "https://"+t.addresses["partners"]+c.path, nil)
	if err != nil {
		return err
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	r.Header.Set("Authorization", "Bearer "+t.ledger)
	shown := "[" + c.partner + ".pem]"
	if c.partner == "" {
		shown = "[no certificate]"
	}
	t.out.sent(c.method + " " + c.path + "   Authorization: Bearer <northwind's token>   " + shown)
	for _, name := range names(c.header) {
		t.out.note(name + ": " + strings.Join(c.header[name], ", "))
	}
	before, _ := t.api.seen()
	status, header, body, err := exchangeWith(client, r)
	if err != nil {
		return err
	}
	after, _ := t.api.seen()
	reason := ""
	if c.reason != "" {
		reason, err = t.refusal(status, header, body, after-before)
		if err != nil {
			return err
		}
	}
	if reached := map[bool]int{true: 1, false: 0}[c.reason == ""]; status != c.status || reason != c.reason || after-before != reached {
		return fmt.Errorf("expected %d %s and %d requests at the API, got %d %s and %d", c.status, c.reason, reached, status, reason, after-before)
	}
	return nil
}

// refusal prints a refused call and returns its reason.
func (t *tour) refusal(status int, header http.Header, body []byte, reached int) (string, error) {
	var refused struct {
		Reason      string `json:"reason"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(body, &refused); err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	t.out.received(fmt.Sprintf("%d   reason %s: %s", status, refused.Reason, refused.Description))
	if challenge := header.Get("WWW-Authenticate"); challenge != "" {
		t.out.note("WWW-Authenticate: " + challenge)
	}
	t.out.note(fmt.Sprintf("requests that reached the API: %d", reached))
	return refused.Reason, nil
}

// identity returns the header of the last request at the API, and the identity headers as lines of
// text.
func (t *tour) identity() (http.Header, []string) {
	_, header := t.api.seen()
	var lines []string
	for _, name := range names(header) {
		if strings.HasPrefix(name, "Tallygate-") {
			lines = append(lines, name+": "+strings.Join(header[name], " | "))
		}
	}
	return header, lines
}

// exchangeWith sends r and reads up to 1 MiB of the response.
func exchangeWith(client *http.Client, r *http.Request) (status int, header http.Header, body []byte, err error) {
	answer, err := client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, answer.Header, body, err
}
