package cli

import (
	"errors"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/keyring"
)

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
