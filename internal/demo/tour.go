package demo

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/tokenclient"
)

// tour runs the steps in order. It returns the error of the first step with an unexpected result.
func (d *demo) tour(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	d.out.line("%s", d.out.paint(bold, "tallygate demo"))
	d.out.line("   gate    https://%s   mutual TLS; what partners call", d.addresses["partners"])
	d.out.line("   issuer  https://%s   the authorization server, in the same process", d.addresses["issuer"])
	d.out.line("   admin   http://%s    probes and metrics", d.addresses["admin"])
	d.out.line("   console http://%s    who is refused, why and since when: open it in a browser", d.addresses["console"])
	d.out.line("   API     http://%s    an API that knows nothing about tokens", d.addresses["api"])
	d.out.line("   files   %s", d.dir)

	t := &tour{demo: d, clients: map[string]*tokenclient.Client{}}
	defer t.close()
	steps := []struct {
		title string
		play  func(context.Context) error
	}{
		{"Northwind's ledger fetches a token. Its certificate is its only credential", t.fetch},
		{"Northwind calls the accounts API with the token and its certificate", t.call},
		{"Borealis has stolen the token and sends it over its own connection", t.refuses(
			call{partner: "borealis", method: "GET", path: "/accounts/7", status: http.StatusUnauthorized, reason: "bound_to_other"},
			"Borealis is a partner, but the token is bound to Northwind's certificate.\nThe gate has cached the token's claims since step 2. It caches facts, never verdicts.")},
		{"The stolen token without a client certificate", t.refuses(
			call{method: "GET", path: "/accounts/7", status: http.StatusUnauthorized, reason: "no_certificate"},
			"a bound token is never accepted as a bearer token.")},
		{"Northwind calls an API that it may not call", t.refuses(
			call{partner: "northwind", method: "GET", path: "/payments/7", status: http.StatusForbidden, reason: "api_not_allowed"},
			"the allow-list of northwind-ledger names accounts only. An unknown path gets the same response, so a caller cannot discover APIs.")},
		{"Northwind calls its API for an operation outside the token's scope", t.refuses(
			call{partner: "northwind", method: "POST", path: "/accounts", status: http.StatusForbidden, reason: "insufficient_scope"},
			"POST /accounts needs accounts:write, and the challenge says so (RFC 6750 section 3.1).")},
		{"Northwind sends forged identity headers", t.forged},
		{"Northwind revokes its token. The gate refuses it at once", t.revoked},
		{"The operator's view: decisions by reason", t.counters},
	}
	for _, step := range steps {
		d.out.title(step.title)
		if err := step.play(ctx); err != nil {
			d.out.fail(err)
			return fmt.Errorf("step %d of the tour: %w", d.out.step, err)
		}
	}
	d.out.line("\n%s", d.out.paint(bold+";"+green, "Every step had the expected result."))
	return nil
}

func (t *tour) fetch(ctx context.Context) error {
	t.out.sent("POST https://" + t.addresses["issuer"] + "/token   grant_type=client_credentials client_id=northwind-ledger   [northwind.pem]")
	answer, err := tokenclient.Fetch(ctx, t.flags("northwind", "northwind-ledger"))
	if err != nil {
		return err
	}
	t.ledger = answer.AccessToken
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(t.ledger, ".")[1])
	if err != nil {
		return fmt.Errorf("reading the token: %w", err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, payload, "", "  "); err != nil {
		return fmt.Errorf("reading the token: %w", err)
	}
	t.out.received("200   a token with these claims:")
	t.out.note(strings.Split(pretty.String(), "\n")...)
	t.out.ok("cnf x5t#S256 is the SHA-256 of northwind.pem: the token works only with this certificate (RFC 8705 section 3.1).")
	return nil
}

func (t *tour) call(ctx context.Context) error {
	if err := t.play(ctx, call{partner: "northwind", method: "GET", path: "/accounts/7", status: http.StatusOK}); err != nil {
		return err
	}
	header, lines := t.identity()
	t.out.received("200   and the API was told who calls:")
	t.out.note(lines...)
	if header.Get("Tallygate-Partner") != "northwind" || header.Get("Authorization") != "" {
		return fmt.Errorf("the API was told %v", lines)
	}
	t.out.ok("token, certificate, partner, route and scope match. The token itself stays at the gate.")
	return nil
}

// refuses returns a step that sends c and explains its refusal.
func (t *tour) refuses(c call, why string) func(context.Context) error {
	return func(ctx context.Context) error {
		err := t.play(ctx, c)
		if err == nil {
			t.out.ok(why)
		}
		return err
	}
}

func (t *tour) forged(ctx context.Context) error {
	forged := http.Header{
		"Tallygate-Partner": {"borealis"},
		"Tallygate_Partner": {"borealis"}, // many upstreams read both spellings as the same field
		"tallygate-scopes":  {"accounts:write"},
		"Client-Cert":       {":Zm9yZ2Vk:"},
		"X-Forwarded-For":   {"10.6.6.6"},
		"Connection":        {"Tallygate-Partner, Tallygate-Client-Id"}, // asks proxies to remove the fields that the gate sets
	}
	if err := t.play(ctx, call{partner: "northwind", method: "GET", path: "/accounts/7", header: forged, status: http.StatusOK}); err != nil {
		return err
	}
	header, lines := t.identity()
	t.out.received("200   and the API was told:")
	t.out.note(append(lines, "X-Forwarded-For: "+strings.Join(header["X-Forwarded-For"], " | "))...)
	if !slices.Equal(header["Tallygate-Partner"], []string{"northwind"}) || !slices.Equal(header["Tallygate-Scopes"], []string{"accounts:read"}) ||
		strings.Contains(strings.Join(names(header), " "), "_") || header["Client-Cert"] != nil || header.Get("X-Forwarded-For") != "127.0.0.1" {
		return fmt.Errorf("a forged header arrived: %v", header)
	}
	t.out.ok("only the gate sets identity headers: it removes every header that resembles them, then sets its own with one value each.")
	return nil
}

func (t *tour) revoked(ctx context.Context) error {
	client, err := t.client("northwind")
	if err != nil {
		return err
	}
	form := url.Values{"client_id": {"northwind-ledger"}, "token": {t.ledger}}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+t.addresses["issuer"]+"/revoke", strings.NewReader(form))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	t.out.sent("POST https://" + t.addresses["issuer"] + "/revoke   client_id=northwind-ledger token=<northwind's token>   [northwind.pem]")
	status, _, _, err := exchangeWith(client, r)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("revoking gave %d, %w", status, err)
	}
	t.out.received("200")
	return t.refuses(call{partner: "northwind", method: "GET", path: "/accounts/7", status: http.StatusUnauthorized, reason: "revoked"},
		"revocation (RFC 7009) is checked on every request, also for a cached token.")(ctx)
}

func (t *tour) counters(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.addresses["admin"]+"/metrics", nil)
	if err != nil {
		return err
	}
	t.out.sent("GET http://" + t.addresses["admin"] + "/metrics")
	client, err := t.client("")
	if err != nil {
		return err
	}
	_, _, body, err := exchangeWith(client, r)
	if err != nil {
		return err
	}
	t.out.received("200   with these lines, among others:")
	missing := []string{"granted", "bound_to_other", "no_certificate", "api_not_allowed", "insufficient_scope", "revoked"}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "tallygate_decisions_total{") || strings.HasSuffix(line, " 0") {
			continue
		}
		t.out.note(line)
		missing = slices.DeleteFunc(missing, func(reason string) bool { return strings.Contains(line, `reason="`+reason+`"`) })
	}
	if len(missing) > 0 {
		return fmt.Errorf("no decision is counted for %s", strings.Join(missing, ", "))
	}
	t.out.ok("every request is counted under one of a closed set of reasons.")
	return nil
}

// pasteLines prints commands to try next.
func (d *demo) pasteLines() {
	d.out.line(`
%s
cd %s
TOKEN=$(tallygate token --metadata https://%[3]s --ca ca.pem --cert northwind.pem --key northwind-key.pem --client-id northwind-ledger)
# or, without tallygate in your PATH:
TOKEN=$(curl -s --cacert ca.pem --cert northwind.pem --key northwind-key.pem -d grant_type=client_credentials -d client_id=northwind-ledger https://%[3]s/token | cut -d'"' -f4)

# granted: the API answers, and shows the headers that reached it
curl --cacert ca.pem --cert northwind.pem --key northwind-key.pem -H "Authorization: Bearer $TOKEN" https://%[4]s/accounts/7

# refused, bound_to_other: the same token with Borealis' certificate
curl -i --cacert ca.pem --cert borealis.pem --key borealis-key.pem -H "Authorization: Bearer $TOKEN" https://%[4]s/accounts/7

# every decision so far, by reason; and the log
curl -s http://%[5]s/metrics | grep tallygate_decisions_total | grep -v ' 0$'
tail gate.log

The demo runs until you press Ctrl-C.`,
		d.out.paint(bold, "Now try it yourself, in another terminal:"), d.dir, d.addresses["issuer"], d.addresses["partners"], d.addresses["admin"])
}
