package cli

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/demo"
)

const initHelp = `Init writes a first configuration, tallygate.yaml, into a folder, and beside it test
certificates with their keys: for the gate and for two partners, each with an authority
of its own. The configuration has one API, one route, two partners and the issuer in the
same process. check and serve work with it at once, and init prints the next commands to
try.

The folder must be empty or not exist: init overwrites nothing. The keys of the test
authorities are not kept, so that no further certificate can be issued.`

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "init DIR",
		Short:   "Write a first configuration with test certificates into a folder",
		Long:    initHelp,
		Example: "  tallygate init gate\n  tallygate serve --config gate/tallygate.yaml",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return demo.Init(cmd.OutOrStdout(), programName(), args[0])
		},
	}
}

// programName returns the command by which the user can start this program again: the name alone if
// the shell would find it, otherwise the path by which it was started.
func programName() string {
	started := os.Args[0]
	if _, err := exec.LookPath("tallygate"); err == nil || filepath.Base(started) == started {
		return "tallygate"
	}
	return started
}
