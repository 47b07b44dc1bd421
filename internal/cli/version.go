package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/buildinfo"
)

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print what this program was built from",
		Long: `Version prints the version, the revision and the Go release that this program was
built from. A warning on standard error says that this Go release has known holes.`,
		Example: "  tallygate version\n  tallygate version -o json",
		Args:    cobra.NoArgs,
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := buildinfo.Read()
		if warning := buildinfo.OutdatedWarning(runtime.Version()); warning != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", warning)
		}
		if *format == jsonOutput {
			return writeJSON(cmd.OutOrStdout(), b)
		}
		if b.Revision == "" {
			b.Revision = "unknown"
		}
		if b.Modified {
			b.Revision += " (modified)"
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "version   %s\nrevision  %s\ngo        %s\n", b.Version, b.Revision, b.Go)
		return err
	}
	return cmd
}
