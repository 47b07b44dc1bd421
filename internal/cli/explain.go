package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/explain"
	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/validate"
)

const explainHelp = `Explain tells what the gate would decide about a request, and why: every check in its
order, with what was expected, what came, and the line of the configuration that says
so. The checks are those of serve itself.

The request is described by --method, --target and --header, or captured: --request
takes an HTTP/1.1 request as it was on the wire, or as "curl --verbose" prints it. The
certificate is a PEM file, since its key is not needed; where front proxies pass
certificates on, it is taken as passed on by one of them. The token comes from
--token-file, where "-" is standard input, or from the captured request.

Authorization servers are asked as the gate would ask them: for their metadata, their
keys and, about an opaque token, for introspection. Our own issuer is asked through its
socket where it runs. Nothing is forwarded, logged or counted.

Exit code 4 says that the request would be refused.`

// explainFlags is what the command explain is told.
type explainFlags struct {
	file      string
	cert      string
	tokenFile string
	method    string
	target    string
	headers   []string
	captured  string
	timeout   time.Duration
}

func explainCommand() *cobra.Command {
	var f explainFlags
	command := &cobra.Command{
		Use:   "explain",
		Short: "Tell what a request would get, and why",
		Long:  explainHelp,
		Example: "  tallygate explain --cert ledger.pem --token-file token.jwt --target https://api.example.com/accounts/7\n" +
			"  tallygate explain --cert ledger.pem --request captured.http -o json",
		Args: cobra.NoArgs,
	}
	configFlag(command, &f.file)
	flags := command.Flags()
	flags.StringVar(&f.cert, "cert", "", "PEM `file` with the client certificate and its intermediates (default: none is shown)")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the access token, - for standard input (default: the captured request's, or none)")
	flags.StringVar(&f.method, "method", "GET", "the request's `method`")
	flags.StringVar(&f.target, "target", "", "the request's `URL`, https://host/path")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "a header `field` of the request, 'Name: value'; may be repeated")
	flags.StringVar(&f.captured, "request", "", "`file` with a captured request, - for standard input")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "time for all that is asked of authorization servers")
	command.MarkFlagsOneRequired("target", "request")
	for _, described := range []string{"target", "method", "header"} {
		command.MarkFlagsMutuallyExclusive("request", described)
	}
	format := outputFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		e, err := explainRequest(command.Context(), f, command.InOrStdin(), command.ErrOrStderr())
		if err != nil {
			return err
		}
		if *format == jsonOutput {
			err = writeJSON(command.OutOrStdout(), e)
		} else {
			_, err = io.WriteString(command.OutOrStdout(), e.Text())
		}
		if err == nil && !e.Granted {
			err = withCode(ExitRefused, fmt.Errorf("refused with %d %s", e.Status, e.Reason))
		}
		return err
	}
	command.AddCommand(explainTokenCommand())
	return command
}

// explainRequest decides about the request that f describes as the gate would.
func explainRequest(ctx context.Context, f explainFlags, stdin io.Reader, stderr io.Writer) (*explain.Explanation, error) {
	r, err := f.request(ctx, stdin)
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(f.file)
	if err != nil {
		return nil, err
	}
	// The certificate is here already, however it would come.
	cfg.Listener.ClientCertificates.From = config.FromTLS
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	own, err := runningIssuer(ctx, cfg, stderr)
	if err != nil {
		return nil, err
	}
	s, err := gate.Load(cfg, gate.NewLog(stderr, slog.LevelError), own)
	if err != nil {
		return nil, withCode(exitConfiguration, err)
	}
	defer s.Close(nil)
	if err := s.ReadOnce(ctx); err != nil {
		fmt.Fprintln(stderr, explain.Printable(err.Error()))
	}
	if own == nil && cfg.Issuer != nil && store.Exists(string(cfg.Issuer.State)) {
		if err := s.Issuer.Inspect(); err != nil { // last: a gate that starts waits 2 s for the state
			return nil, err
		}
		defer func() { _ = s.Issuer.Close() }()
	}
	r = r.WithContext(ctx)
	decision, certificate := s.Proxy.Decide(r)
	return explain.New(cfg, s.Trust, r, decision, certificate), nil
}

// runningIssuer returns the issuer that runs with cfg in another process, nil when there
// is none.
func runningIssuer(ctx context.Context, cfg *config.Config, stderr io.Writer) (*gate.LocalIssuer, error) {
	if cfg.Issuer == nil {
		return nil, nil
	}
	socket := gate.OperatorSocket(cfg)
	keySet, err := callIssuer[json.RawMessage](ctx, socket, http.MethodGet, "/jwks", nil)
	if isNotRunning(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &gate.LocalIssuer{
		LocalIssuer: validate.LocalIssuer{
			KeySet: func() ([]byte, uint64) { return keySet, 1 },
			Introspect: func(raw string) (access.Unchecked, bool, error) {
				token, err := callIssuer[issuer.TokenResponse](ctx, socket, http.MethodPost, "/introspect", issuer.TokenRequest{Token: raw})
				return token.Claims, token.Active, err
			},
		},
		Revoked: func(token access.Unchecked) bool {
			answer, err := callIssuer[issuer.RevokedResponse](ctx, socket, http.MethodPost, "/revoked", token)
			if err != nil {
				fmt.Fprintf(stderr, "cannot tell whether the token has been revoked: %v\n", err)
			}
			return err != nil || answer.Revoked // an unknown status must not be granted
		},
	}, nil
}

// readChain returns the certificates in a PEM file, the client's first, or none where no
// file is named.
func readChain(file string) ([]*x509.Certificate, error) {
	if file == "" {
		return nil, nil
	}
	certificates, err := pemfile.ReadCertificates(file)
	if err != nil {
		return nil, fmt.Errorf("reading the client certificate: %w", err)
	}
	chain := make([]*x509.Certificate, len(certificates))
	for i, c := range certificates {
		chain[i] = c.Certificate
	}
	return chain, nil
}
