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
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/explain"
	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
	"github.com/tallygate/tallygate/validate"
)

const explainHelp = `Explain shows how the gate would decide a request: every check in order, with the
expected and the received value and the line of the configuration behind the check. It
runs the same checks as serve. After a refusal it goes on with each check that does not
depend on the failed check: "would also be refused".

Describe the request with --method, --target and --header, or pass a captured request
with --request: HTTP/1.1 as sent, or the output of "curl --verbose". The certificate is
a PEM file; its key is not needed. If front proxies pass certificates in a header, the
certificate is treated as passed by a trusted proxy. The token comes from --token-file,
where "-" is standard input, or from the captured request.

Explain contacts authorization servers as the gate does: for metadata, for keys and for
introspection of an opaque token. It contacts our own issuer through its socket if the
issuer runs. It forwards, logs and counts nothing.

With --at, certificates, tokens, proofs and revocation lists are judged as of that time,
and everything else is as it is now: the configuration, keys, revocations and what
authorization servers answer.

With --log-line, explain takes a line of the gate's log instead of a request: what its
reason means, whose fault it usually is, what to do, and, if the configuration is at
hand, which settings it names. It checks nothing, and the exit code is 0.

Exit code 4 means that the request would be refused.`

// explainFlags holds the flags of the command explain.
type explainFlags struct {
	file      string
	cert      string
	tokenFile string
	method    string
	target    string
	headers   []string
	captured  string
	logLine   string
	timeout   time.Duration
	at        timeValue
}

func explainCommand() *cobra.Command {
	var f explainFlags
	command := &cobra.Command{
		Use:   "explain",
		Short: "Explain how the gate would decide a request",
		Long:  explainHelp,
		Example: "  tallygate explain --cert ledger.pem --token-file token.jwt --target https://api.example.com/accounts/7\n" +
			"  tallygate explain --cert ledger.pem --request captured.http -o json\n" +
			"  grep 1f0c gate.log | tallygate explain --log-line -\n" +
			"  tallygate explain --cert ledger.pem --token-file token.jwt --target https://api.example.com/accounts/7 \\\n    --at 2026-11-30T03:00:00Z",
		Args: cobra.NoArgs,
	}
	configFlag(command, &f.file)
	flags := command.Flags()
	flags.StringVar(&f.cert, "cert", "", "PEM `file` with the client certificate and its intermediates (default: no certificate)")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the access token, - for standard input (default: the token of the captured request, or no token)")
	flags.StringVar(&f.method, "method", "GET", "the request's `method`")
	flags.StringVar(&f.target, "target", "", "the request's `URL`, https://host/path")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "a header `field` of the request, 'Name: value'; may be repeated")
	flags.StringVar(&f.captured, "request", "", "`file` with a captured request, - for standard input")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "time limit for all requests to authorization servers")
	flags.StringVar(&f.logLine, "log-line", "", "`file` with a line of the gate's log to explain, - for standard input")
	command.MarkFlagsOneRequired("target", "request", "log-line")
	for _, described := range []string{"target", "method", "header"} {
		command.MarkFlagsMutuallyExclusive("request", described)
	}
	atFlag(command, &f.at)
	for _, described := range []string{"cert", "token-file", "method", "target", "header", "request", "at"} {
		command.MarkFlagsMutuallyExclusive("log-line", described)
	}
	format := outputFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		if f.logLine != "" {
			return explainLogLine(command, f, *format)
		}
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

// explainRequest decides about the request that f describes, as the gate would.
func explainRequest(ctx context.Context, f explainFlags, stdin io.Reader, stderr io.Writer) (*explain.Explanation, error) {
	r, err := f.request(ctx, stdin)
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(f.file)
	if err != nil {
		return nil, err
	}
	// The certificate is in the request, whichever source is configured.
	cfg.Listener.ClientCertificates.From = config.FromTLS
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	own, err := runningIssuer(ctx, cfg, stderr)
	if err != nil {
		return nil, err
	}
	s, err := gate.Load(cfg, gate.NewLog(stderr, slog.LevelError), gate.LoadOptions{Own: own, At: f.at.Time})
	if err != nil {
		return nil, withCode(exitConfiguration, err)
	}
	defer s.Close()
	if err := s.ReadOnce(ctx); err != nil {
		fmt.Fprintln(stderr, explain.Printable(err.Error()))
	}
	if own == nil && cfg.Issuer != nil && (cfg.Issuer.Database != nil || store.Exists(string(cfg.Issuer.State))) {
		if err := s.Issuer.Inspect(); err != nil { // Inspect comes after ReadOnce, which may take long: Inspect locks the state, and a starting gate waits only 2 s for the lock
			return nil, err
		}
		defer func() { _ = s.Issuer.Close() }()
	}
	if note := s.RevocationsNote(); note != "" {
		fmt.Fprintln(stderr, explain.Printable(note))
	}
	r = r.WithContext(ctx)
	c := authorize.Checked{Checks: s.Checks, Request: r}
	c.Decide(nil)
	e := explain.New(cfg, s.Trust, r, c.Decision, c.Certificate)
	e.At = f.at.Time
	if !e.Granted {
		refused, accepted := s.Checks.Refusals(r)
		e.AddRefusals(cfg, r, refused, accepted)
	}
	return e, nil
}

// runningIssuer returns the issuer that another process runs with cfg, or nil if no process runs
// it.
func runningIssuer(ctx context.Context, cfg *config.Config, stderr io.Writer) (*gate.LocalIssuer, error) {
	if cfg.Issuer == nil || cfg.Issuer.Database != nil { // explain reads the database itself
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
	revoked := func(token access.Unchecked) (revocation.Kind, error) {
		answer, err := callIssuer[issuer.RevokedResponse](ctx, socket, http.MethodPost, "/revoked", token)
		if err != nil {
			fmt.Fprintf(stderr, "cannot tell whether the token has been revoked: %v\n", err)
		}
		return answer.By, err
	}
	return &gate.LocalIssuer{
		LocalIssuer: validate.LocalIssuer{
			KeySet: func() ([]byte, uint64) { return keySet, 1 },
			Introspect: func(raw string) (access.Unchecked, bool, error) {
				token, err := callIssuer[issuer.TokenResponse](ctx, socket, http.MethodPost, "/introspect", issuer.TokenRequest{Token: raw})
				return token.Claims, token.Active, err
			},
		},
		Revoked:      revoked,
		Certificates: &revokedCertificates{revoked},
	}, nil
}

// revokedCertificates asks a running issuer about certificates.
type revokedCertificates struct {
	revoked func(access.Unchecked) (revocation.Kind, error)
}

// Certificate asks about a token that is bound to the certificate and is otherwise not revoked. If the issuer does not
// answer, the certificate is not refused, and the question about the token fails too.
func (c *revokedCertificates) Certificate(t access.Thumbprint) bool {
	by, err := c.revoked(access.Unchecked{Confirmation: access.Confirmation{Present: true, Thumbprint: t}})
	return by != 0 && err == nil
}

// readChain returns the certificates in a PEM file, the leaf first. Without a file name it returns
// no certificates.
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
