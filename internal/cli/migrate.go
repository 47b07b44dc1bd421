package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
)

func issuerCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "issuer",
		Short:   "Move the issuer's state",
		Example: "  tallygate issuer migrate --from /var/lib/tallygate/issuer",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return withCode(exitUsage, errors.New("missing subcommand: migrate"))
		},
	}
	command.AddCommand(migrateCommand())
	return command
}

func migrateCommand() *cobra.Command {
	var file, from string
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Copy the issuer's state from a folder into the database",
		Long: `Migrate copies signing keys, opaque tokens, revocations and their audit from the folder
of an issuer's state into the database that the configuration names with issuer.database,
and then checks that the database has all of them. Tokens stay valid and revocations stay in
force.

Stop the issuer first, because only one process at a time may use the folder. Then run
migrate with the new configuration, and then start the issuers with it. If migrate is
interrupted, run it again. It does not change the folder. Remove the folder when the
issuers run, because it has the signing keys.`,
		Example: "  tallygate issuer migrate --from /var/lib/tallygate/issuer --config tallygate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if cfg.Issuer == nil || cfg.Issuer.Database == nil {
				return withCode(exitUsage, fmt.Errorf("%s configures no issuer.database", file))
			}
			if !store.Exists(from) {
				return fmt.Errorf("there is no state in %q", from)
			}
			source, err := store.Open(from)
			if err != nil {
				return fmt.Errorf("opening the state: %w", err)
			}
			defer func() { _ = source.Close() }()
			target, err := postgres.Open(command.Context(), postgres.Options{
				Database: *cfg.Issuer.Database, Log: gate.NewLog(command.ErrOrStderr(), cfg.Log.Level.Level()),
			})
			if err != nil {
				return fmt.Errorf("opening the database: %w", err)
			}
			n, err := target.Import(source)
			if err := errors.Join(err, target.Close()); err != nil {
				return fmt.Errorf("copying into %s: %w", cfg.Issuer.Database.URL, err)
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "copied %d signing keys, %d tokens, %d revocations and %d audit records into %s\n", n.Keys, n.Tokens, n.Revocations, n.Audit, cfg.Issuer.Database.URL)
			return err
		},
	}
	configFlag(command, &file)
	command.Flags().StringVar(&from, "from", "", "the `folder` of the issuer's state")
	_ = command.MarkFlagRequired("from") // fails only for an unknown flag
	_ = command.MarkFlagDirname("from")
	return command
}
