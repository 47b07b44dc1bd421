package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/tokenclient"
)

// A remoteIssuer is an issuer that a command calls over mutual TLS, with the certificate of an operator.
type remoteIssuer struct {
	url     string
	options tokenclient.Options
}

// addRemoteFlags adds the flags for a call over mutual TLS to command, which has the flags of addFlags.
func (t *issuerTarget) addRemoteFlags(command *cobra.Command) {
	flags, o := command.Flags(), &t.remote.options
	flags.StringVar(&t.remote.url, "issuer", "", "`URL` of an issuer to call over mutual TLS: its identifier, on the host of issuer.mtls_alias if there is an alias")
	flags.StringVar(&o.Cert, "cert", "", "PEM `file` with the operator's certificate and its intermediates, for --issuer")
	flags.StringVar(&o.Key, "key", "", "PEM `file` with the private key of --cert")
	flags.StringVar(&o.CA, "ca", "", "PEM `file` with the authorities of the issuer's server certificate (default: the system's)")
	flags.DurationVar(&o.Timeout, "timeout", 10*time.Second, "time limit for a call of --issuer")
	for _, other := range []string{"config", "state"} {
		command.MarkFlagsMutuallyExclusive("issuer", other)
	}
	command.MarkFlagsRequiredTogether("issuer", "cert", "key")
}

// callRemote sends a request to an endpoint for operators and decodes its answer. A nil body is no body.
func callRemote[Response any](ctx context.Context, remote *remoteIssuer, method, path string, body any) (response Response, err error) {
	base, err := url.Parse(remote.url)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return response, withCode(exitUsage, errors.New("--issuer: must be an https URL with a host, without user, query and fragment"))
	}
	if remote.options.Timeout <= 0 {
		return response, withCode(exitUsage, errors.New("--timeout: must be positive"))
	}
	client, err := tokenclient.New(remote.options)
	if err != nil {
		return response, err
	}
	defer client.HTTP.CloseIdleConnections()
	var content []byte
	if body != nil {
		if content, err = json.Marshal(body); err != nil {
			return response, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, remote.options.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base.String(), "/")+"/operator"+path, bytes.NewReader(content))
	if err != nil {
		return response, err
	}
	request.Header.Set("Content-Type", "application/json")
	status, answer, err := client.Do(request)
	if err != nil {
		if method == http.MethodPost { // the issuer may have stored the revocation before the connection ended
			err = fmt.Errorf("%w; the issuer may have stored the revocation, and it is safe to repeat the command: call another issuer with the same database, or run the command with --config or --state where the issuer runs", err)
		}
		return response, err
	}
	if status != http.StatusOK {
		return response, remoteRefusal(status, answer)
	}
	return response, json.Unmarshal(answer, &response)
}

// remoteRefusal returns the error for an answer of an endpoint for operators. A status below 500 is a refusal, apart from
// 429, which ends by itself.
func remoteRefusal(status int, answer []byte) error {
	var fault struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	text := fmt.Sprintf("the issuer answers with status %d", status)
	if json.Unmarshal(answer, &fault) == nil && fault.Error != "" {
		text += fmt.Sprintf(", %s: %s", printable(fault.Error), printable(fault.Description))
	}
	switch {
	case status == http.StatusUnauthorized:
		text += " The certificate must be one of issuer.operators; with issuer.mtls_alias, --issuer has the host of the alias. The issuer's log says more."
	case status == http.StatusNotFound:
		text += " The issuer has no operators (issuer.operators), or --issuer lacks the path of its identifier."
	case status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
		return errors.New(text)
	}
	return withCode(ExitRefused, errors.New(text))
}
