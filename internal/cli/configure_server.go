package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/explain"
	"github.com/tallygate/tallygate/internal/serverconfig"
)

const configureServerHelp = `Configure-server reads the metadata and the key set of an authorization server, and
prints the section authorization_servers that fits, as YAML with comments. Append it to
the configuration and run "tallygate check".

URL is the issuer identifier, or the URL of the metadata under /.well-known/
(oauth-authorization-server or openid-configuration).

With --token, a sample access token decides which claims name client, audience and
scopes, and whether tokens are bound. The token is sent nowhere and never printed, but
its client, audiences and scopes are. Standard error has what was found, and lines that
begin with "missing:" say what must change at the server.

Requests go over https, without a proxy, to the server and to the jwks_uri of its
metadata, which may name another host. A redirect to another host is not followed.
Exit code 4 means that the gate would refuse the token, or every token, until what is
missing is there.`

// maxSampleToken bounds the file of a sample token: four of the longest tokens that the gate takes.
const maxSampleToken = 64 << 10

func configureServerCommand() *cobra.Command {
	var o serverconfig.Options
	var tokenFile string
	command := &cobra.Command{
		Use:   "configure-server URL",
		Short: "Propose the configuration for an authorization server",
		Long:  configureServerHelp,
		Example: "  tallygate configure-server https://as.example.com\n" +
			"  tallygate configure-server https://keycloak.example.com/realms/partners --token token.jwt --ca as-ca.pem",
		Args: cobra.ExactArgs(1),
	}
	flags := command.Flags()
	flags.StringVar(&tokenFile, "token", "", "`file` with a sample access token of the server, - for standard input (default: no token)")
	flags.StringVar(&o.CA, "ca", "", "PEM `file` with the authorities of the server (default: the system's)")
	flags.DurationVar(&o.Timeout, "timeout", 10*time.Second, "time limit for the whole command")
	command.RunE = func(command *cobra.Command, args []string) error {
		o.URL = args[0]
		if tokenFile != "" {
			content, err := readInput(tokenFile, command.InOrStdin(), maxSampleToken)
			if err != nil {
				return fmt.Errorf("reading token: %w", err)
			}
			if o.Token = strings.TrimSpace(string(content)); o.Token == "" {
				return fmt.Errorf("reading token: %q is empty", tokenFile)
			}
		}
		p, err := serverconfig.Propose(command.Context(), o)
		var usage *serverconfig.UsageError
		if errors.As(err, &usage) {
			return withCode(exitUsage, err)
		} else if err != nil {
			return errors.New(explain.Printable(err.Error()))
		}
		for _, text := range p.Found {
			fmt.Fprintln(command.ErrOrStderr(), "found: "+explain.Printable(text))
		}
		for _, text := range p.Missing {
			fmt.Fprintln(command.ErrOrStderr(), "missing: "+explain.Printable(text))
		}
		if _, err := fmt.Fprint(command.OutOrStdout(), p.Block); err != nil {
			return err
		}
		if len(p.Missing) > 0 {
			return withCode(ExitRefused, errors.New("the gate would refuse tokens of this server until what is missing is there"))
		}
		return nil
	}
	return command
}
