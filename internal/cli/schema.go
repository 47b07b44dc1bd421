package cli

import (
	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/config"
)

const schemaHelp = `Schema prints the JSON Schema (draft-07) of the configuration file: every key with its
type, values, default and meaning. Editors with the YAML language server use it if the
configuration begins with the comment

    ` + config.SchemaModeline + `
and a file of that name beside the configuration has the schema. Init writes both.

The schema refuses nothing that the gate accepts, except true and false as text without
quotation marks. The reverse does not hold: only check knows whether a configuration is
valid.`

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of the configuration, for editors",
		Long:    schemaHelp,
		Example: "  tallygate schema > " + config.SchemaFile,
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := command.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
