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
		Short: "Print the version and the build",
		Long: `Version prints the version and the revision of the program and the Go release that built
it. It warns on standard error if this Go release has known security holes.`,
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
