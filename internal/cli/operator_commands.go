package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/keyring"
)

// maxToken bounds the token on standard input: 1 MiB, far above the 16 KiB of the longest token
// that a gate accepts.
const maxToken = 1 << 20

func revokeCommand() *cobra.Command {
	var target issuerTarget
	var body issuer.RevocationRequest
	var token bool
	command := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke tokens of the issuer",
		Long: `Revoke ends tokens before they expire: one token, every token issued to an
application or a partner so far, or a certificate with every token bound to it. The
command calls the issuer that runs with the same configuration. If no issuer runs, it
writes to the issuer's state. The revocation is durable when the command prints it.

Tokens issued later are valid. A revoked certificate is refused for ever. To keep a
partner out, also set "disabled" in the configuration.

With issuer.database the command writes to the database, and every issuer that runs
takes the revocation over within a second.

While the configuration has a fault, name the folder of the running issuer's state with
--state.`,
		Example: "  tallygate revoke --application northwind-ledger\n  tallygate revoke --token < token.jwt",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if token {
				// The token comes on standard input, because every user of the machine can see
				// arguments.
				text, err := readInput("-", command.InOrStdin(), maxToken)
				if err != nil {
					return fmt.Errorf("reading the token: %w", err)
				}
				if body.Token = string(bytes.TrimSpace(text)); body.Token == "" {
					return withCode(exitUsage, errors.New("no token on standard input"))
				}
			}
			response, err := execute(command.Context(), &target, command.ErrOrStderr(), operation[issuer.RevocationResponse]{
				http.MethodPost, "/revocations", body,
				func(i *issuer.Issuer) (issuer.RevocationResponse, error) { return i.Revoke(body) },
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(command.OutOrStdout(), response.Done)
			return err
		},
	}
	target.addFlags(command)
	flags := command.Flags()
	flags.BoolVar(&token, "token", false, "revoke the token on standard input")
	flags.StringVar(&body.Application, "application", "", "revoke every token issued so far to the application with this `client_id`")
	flags.StringVar(&body.Partner, "partner", "", "revoke every token issued so far to this `partner`")
	flags.StringVar(&body.Thumbprint, "thumbprint", "", "revoke the certificate with this `thumbprint` (base64url) for ever")
	what := []string{"token", "application", "partner", "thumbprint"}
	command.MarkFlagsOneRequired(what...)
	command.MarkFlagsMutuallyExclusive(what...)
	return command
}

func keysCommand() *cobra.Command {
	var target issuerTarget
	command := &cobra.Command{
		Use:     "keys",
		Short:   "List and rotate the issuer's signing keys",
		Example: "  tallygate keys list",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return withCode(exitUsage, errors.New("missing subcommand: list or rotate"))
		},
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the published signing keys",
		Example: "  tallygate keys list --config tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return printKeys(command, &target, http.MethodGet, "/keys", func(i *issuer.Issuer) ([]keyring.Status, error) {
				return i.SigningKeys(), nil
			})
		},
	}
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Sign with the next key from now on",
		Long: `Rotate makes the next key the signing key. The next key has been in the key set since
the last rotation. Rotate also publishes a new next key. The old key stays published
until the last token that it signed has expired.`,
		Example: "  tallygate keys rotate --config tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return printKeys(command, &target, http.MethodPost, "/keys/rotate", (*issuer.Issuer).RotateKeys)
		},
	}
	target.addFlags(list)
	target.addFlags(rotate)
	command.AddCommand(list, rotate)
	return command
}

// printKeys runs an operation that returns the signing keys, and prints them.
func printKeys(command *cobra.Command, target *issuerTarget, method, path string, offline func(*issuer.Issuer) ([]keyring.Status, error)) error {
	keys, err := execute(command.Context(), target, command.ErrOrStderr(), operation[[]keyring.Status]{method, path, nil, offline})
	if err != nil {
		return err
	}
	return writeJSON(command.OutOrStdout(), keys)
}
