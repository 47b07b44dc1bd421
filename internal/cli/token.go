package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/tokenclient"
)

const tokenHelp = `Token fetches an access token as a partner's application does: it reads the metadata of
the authorization server (RFC 8414), authenticates with the client certificate (RFC 8705
section 2) and uses the grant client_credentials. Standard output has the token and
nothing else.

--metadata takes the issuer identifier, or the URL of its metadata under /.well-known/
(oauth-authorization-server or openid-configuration). The metadata must name the
requested issuer. The token endpoint for mutual TLS (mtls_endpoint_aliases) is
preferred.

Token uses only https, no proxy, and follows no redirects. Exit code 4 means that the
authorization server refused.`

func tokenCommand() *cobra.Command {
	var f tokenclient.Options
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Fetch an access token by mutual TLS",
		Long:  tokenHelp,
		Example: "  tallygate token --metadata https://as.example.com --cert client.pem --key client-key.pem \\\n" +
			"    --client-id northwind-ledger --scope \"accounts:read accounts:write\"",
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Metadata, "metadata", "", "issuer identifier or metadata `URL`")
	flags.StringVar(&f.Cert, "cert", "", "PEM `file` with the client certificate and its intermediates")
	flags.StringVar(&f.Key, "key", "", "PEM `file` with the private key of --cert")
	flags.StringVar(&f.ClientID, "client-id", "", "the application's client `identifier`")
	flags.StringVar(&f.Scope, "scope", "", "requested `scopes`, separated by spaces (default: what the server grants)")
	flags.StringVar(&f.CA, "ca", "", "PEM `file` with the authorities of the server (default: the system's)")
	flags.DurationVar(&f.Timeout, "timeout", 10*time.Second, "time limit for the whole command")
	for _, required := range []string{"metadata", "cert", "key", "client-id"} {
		_ = cmd.MarkFlagRequired(required) // fails only for an unknown flag
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		token, err := tokenclient.Fetch(cmd.Context(), f)
		var usage *tokenclient.UsageError
		var refused *tokenclient.RefusedError
		switch {
		case errors.As(err, &usage):
			return withCode(exitUsage, err)
		case errors.As(err, &refused):
			return withCode(ExitRefused, err)
		case err != nil:
			return err
		}
		if *format == jsonOutput {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", token.Raw)
		} else {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token.AccessToken)
		}
		return err
	}
	return cmd
}
