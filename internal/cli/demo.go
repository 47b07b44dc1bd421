package cli

import (
	"github.com/spf13/cobra"

	"github.com/tallygate/tallygate/internal/demo"
)

const demoHelp = `Demo shows the whole of tallygate on loopback, with nothing to prepare: it makes a
small PKI, two partners with an application each and a stand-in for a legacy API,
starts issuer and gate, and plays a tour through real sockets. Each step tells what
was sent, what came back and why.

After the tour the demo stays up and prints lines to paste, until it is stopped.
With --tour it ends after the tour; the exit code is 0 only if every step went as
told. --dir keeps the certificates, the configuration and the gate's log.`

func demoCommand() *cobra.Command {
	var (
		tour bool
		dir  string
	)
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "See it all at work, nothing to prepare",
		Long:    demoHelp,
		Example: "  tallygate demo\n  tallygate demo --tour\n  tallygate demo --dir ./demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), cmd.OutOrStdout(), dir, tour)
		},
	}
	cmd.Flags().BoolVar(&tour, "tour", false, "end after the tour")
	cmd.Flags().StringVar(&dir, "dir", "", "keep the demo's files in this `folder` (default: a temporary one, removed at the end)")
	_ = cmd.MarkFlagDirname("dir") // errs only for a flag that does not exist
	return cmd
}
